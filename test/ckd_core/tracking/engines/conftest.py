from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch

from ckd_core.models.registry import build_model
from ckd_core.tracking.engines import EngineUnavailableError
from ckd_core.tracking.engines.build import engine_for
from testkit.engine_boxes import predictions_of
from testkit.small_scenes import TINY


@pytest.fixture(scope="module")
def network():
    """Random weights with attention as peaked as trained ones have it: elimination then ranks by more than noise."""
    network = build_model(TINY).eval()
    with torch.no_grad():
        for block in network.backbone.blocks:
            block.attn.qkv.weight *= 8
    return network


@pytest.fixture(scope="module")
def crops(network):
    """Twelve smooth template and search crops."""
    generator = np.random.default_rng(5)

    def smooth(count: int, side: int) -> np.ndarray:
        coarse = torch.from_numpy(generator.random((count * 2, 3, 5, 5), dtype=np.float32))
        fine = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic", align_corners=False)
        planes = (fine.clamp(0, 1) * 255).to(torch.uint8).unflatten(0, (count, 2))
        return np.ascontiguousarray(planes.permute(0, 1, 3, 4, 2).numpy())

    return smooth(1, network.config.template_size), smooth(12, network.config.search_size)


@pytest.fixture(scope="module")
def expected(network, crops) -> np.ndarray:
    return predictions_of(engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu"), crops)


@pytest.fixture(scope="module")
def converted(network):
    """`converted(name)`: an engine by name with two threads, converted once per module."""

    @cache
    def start(name: str):
        try:
            return engine_for(copy.deepcopy(network), engine=name, device="cpu", threads=2, strict_device=True)
        except EngineUnavailableError as error:
            pytest.skip(str(error))

    return start
