"""Twelve frames of the published trackers, with full-size networks and regenerated weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.models.registry import build_model
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.pytorch import TorchEngine
from ckd_core.tracking.tracker import Tracker

ALL_BLOCKS = (3, 6, 9)


@pytest.fixture(scope="module")
def engine_of(golden_dir, recipe):
    """Golden engines by model, one held at a time: 184 million parameters each."""
    held: dict[str, dict[str, torch.Tensor]] = {}

    def build(model: str, ce_blocks: tuple[int, ...]) -> TorchEngine:
        manifest = {"sdstrack_b256": "manifest_sdstrack", "ckd_b256": "manifest_ckd_infer"}[model]
        if model not in held:
            held.clear()
            rows = json.loads((golden_dir / f"{manifest}.json").read_text())
            held[model] = {key: torch.from_numpy(recipe.tensor(key, row["shape"])) for key, row in rows.items()}
        with torch.device("meta"):
            network = build_model(model, ce_blocks=ce_blocks)
        network.load_state_dict(held[model], strict=True, assign=True)
        return TorchEngine(network, "fp32", "cpu")

    return build


@pytest.mark.parametrize(
    ("trace", "model", "ce_blocks"),
    [
        ("sdstrack_ce", "sdstrack_b256", ALL_BLOCKS),
        ("sdstrack_noce", "sdstrack_b256", ()),
        ("ckd_noce", "ckd_b256", ()),
        ("ckd_mce", "ckd_b256", ALL_BLOCKS),
    ],
)
def test_trace(golden_dir, recipe, engine_of, trace: str, model: str, ce_blocks: tuple[int, ...]) -> None:
    golden = np.load(golden_dir / f"trace_{trace}.npz")
    images, boxes = recipe.video("clip0")
    frames = [
        MultiModalFrame(
            index / 30,
            np.ascontiguousarray(image[..., :3]),
            np.ascontiguousarray(image[..., 3:]),
            Modality.THERMAL,
        )
        for index, image in enumerate(images)
    ]
    tracker = Tracker(engine_of(model, ce_blocks), Modality.THERMAL, TrackerConfig().as_published())
    tracker.start(frames[0], BoundingBox(*(float(value) for value in boxes[0])))
    results = [tracker.update(frame) for frame in frames[1:]]
    np.testing.assert_allclose([result.box for result in results], golden["pred_boxes_f64"][1:], rtol=0, atol=0.01)
    scores = golden["best_score_f64"][1:] if "best_score_f64" in golden else golden["hann_score_max_f64"]
    np.testing.assert_allclose([result.score for result in results], scores, rtol=0, atol=2e-5)
