"""Frames of the published trackers in turn, with full-size networks and regenerated weights.

`make test` follows the first five of twelve, each of which starts from the box before it; `make test-all` all of them.
"""

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
from testkit.reliability.lengths import LONG

ALL_BLOCKS = (3, 6, 9)
FRAMES = 12 if LONG else 5


@pytest.fixture(scope="module")
def engine_of(golden_dir, golden_state):
    """Makes engines with the golden weights of the published manifest."""

    def build(model: str, ce_blocks: tuple[int, ...]) -> TorchEngine:
        manifest = {"sdstrack_b256": "manifest_sdstrack", "ckd_b256": "manifest_ckd_infer"}[model]
        rows = json.loads((golden_dir / f"{manifest}.json").read_text())
        with torch.device("meta"):
            network = build_model(model, ce_blocks=ce_blocks)
        state = golden_state({key: row["shape"] for key, row in rows.items()})
        network.load_state_dict(state, strict=True, assign=True)
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
def test_a_trace_equals_the_published_one(
    golden_dir, recipe, engine_of, trace: str, model: str, ce_blocks: tuple[int, ...]
) -> None:
    golden = np.load(golden_dir / f"trace_{trace}.npz")
    images, truth = recipe.video("clip0")
    frames = [
        MultiModalFrame(
            index / 30,
            np.ascontiguousarray(image[..., :3]),
            np.ascontiguousarray(image[..., 3:]),
            Modality.THERMAL,
        )
        for index, image in enumerate(images[:FRAMES])
    ]
    tracker = Tracker(engine_of(model, ce_blocks), Modality.THERMAL, TrackerConfig().as_published())
    tracker.start(frames[0], BoundingBox(*(float(value) for value in truth[0])))
    results = [tracker.update(frame) for frame in frames[1:]]
    boxes = golden["pred_boxes_f64"][1:FRAMES]
    np.testing.assert_allclose([result.box for result in results], boxes, rtol=0, atol=0.01)
    scores = golden["best_score_f64"][1:] if "best_score_f64" in golden else golden["hann_score_max_f64"]
    assert len(scores) == 11
    np.testing.assert_allclose([result.score for result in results], scores[: FRAMES - 1], rtol=0, atol=2e-5)
