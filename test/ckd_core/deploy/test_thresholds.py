from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from ckd_core import DEFAULT_MODEL
from ckd_core.data.footage import synthetic_footage
from ckd_core.data.sequences import SequenceError, open_sequence
from ckd_core.deploy.thresholds import (
    CalibrationError,
    Claims,
    RememberingTracker,
    Trial,
    calibrate,
    find_thresholds,
    write_thresholds,
)
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import WeightsFileError, load_model, load_tensors
from ckd_core.tracking import build_tracker
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TemplateRefresh, TrackerConfig
from ckd_core.tracking.engines.pytorch import TorchEngine
from ckd_core.tracking.result import TrackState
from testkit.small_scenes import TINY, write_scene

CREDULOUS = Thresholds(doubt=0.02, unseen=0.02, confirm=0.02, rival=1.0, history=0.0)


def test_calibrated_thresholds_are_read_back_and_used(tmp_path, call, scenes, tiny_weights) -> None:
    out = tmp_path / "calibrated.safetensors"
    untouched = tiny_weights.read_bytes()
    output = call(
        "calibrate", "--model", TINY, "--weights", tiny_weights, "--sequences", scenes, "--scenes", 0, "--out", out
    )
    assert tiny_weights.read_bytes() == untouched
    tensors, metadata = load_tensors(out)  # verifies the checksum
    assert metadata.sha256 in output.replace("\n", "")
    assert metadata.tracking["calibration"] == {"painted_scenes": 0, "sequences": ["a", "b"]}
    before, _ = load_tensors(tiny_weights)
    assert all((tensors[name] == before[name]).all() for name in before)

    tracker = build_tracker(TINY, out, Modality.THERMAL, engine="torch/fp32", device="cpu")
    assert tracker.thresholds == Thresholds.from_mapping(metadata.tracking["thresholds"])
    assert tracker.thresholds != Thresholds()
    # the table counts what a tracker of these weights really claims, although the network runs only once
    sequence = open_sequence(scenes / "a")
    tracker.start(sequence.frame(0), sequence_box(sequence))
    states = [tracker.update(sequence.frame(i)).state is TrackState.TRACKING for i in range(1, len(sequence))]
    missed = 1 - np.mean(np.array(states)[sequence.present[1:]])
    row = next(line for line in output.splitlines() if "a, calibrated" in line)
    assert f"{missed:.1%}" in re.split("[│|]", row)[5]


def sequence_box(sequence):
    from ckd_core.frame import BoundingBox

    return BoundingBox(*map(float, sequence.boxes[0]))


def test_calibration_makes_the_shipped_network_doubt_more() -> None:
    network, metadata = load_model("sdstrack_s128")
    footage = synthetic_footage(17, [Modality.THERMAL], 1, 36)
    # the rules about shapes, sizes and rivals alone would already doubt what stands where the target was
    config = TrackerConfig(
        published_geometry=bool(metadata.tracking["published_geometry"]),
        confidence=ConfidenceConfig(max_shape=100.0, claim_scale=100.0, second_look=False),
    )
    trial = Trial(TorchEngine(network, "fp32", "cpu"), footage, config)
    calibrated = find_thresholds(trial, CREDULOUS)
    before, after = trial.claims(CREDULOUS), trial.claims(calibrated)
    assert before.absent == after.absent > 5
    assert before.false_share > 0.7
    assert after.false_share <= before.false_share - 0.3
    assert after.cost < before.cost
    assert find_thresholds(trial, CREDULOUS) == calibrated


def test_what_is_remembered_is_what_the_network_would_say() -> None:
    """Two trackers look at the same windows with different templates."""
    network, _ = load_model(DEFAULT_MODEL)
    (footage,) = synthetic_footage(17, [Modality.THERMAL], 1, 60)
    engine = TorchEngine(network, "fp32", "cpu")
    first = TrackerConfig(published_geometry=False, template_refresh=TemplateRefresh.NEVER)
    configs = first, replace(first, template_refresh=TemplateRefresh.BLEND, template_every=2, template_score=0.0)

    def followed(config: TrackerConfig, cache: dict) -> list[tuple]:
        tracker = RememberingTracker(engine, footage.modality, config, CREDULOUS, cache)
        tracker.start(footage.frame(footage.start), {0: footage.box(footage.start)})
        told = []
        for index in range(footage.start + 1, len(footage)):
            result = tracker.update(footage.frame(index))[0]
            told.append((result.box, result.score, result.state, tracker._targets[0].learnt))
        return told

    alone = [followed(config, {}) for config in configs]
    assert [any(one[-1] for one in told) for told in alone] == [False, True]
    cache: dict = {}
    assert [followed(config, cache) for config in configs] == alone
    filled = len(cache)
    assert followed(configs[1], cache) == alone[1]
    assert len(cache) == filled, "the network is not asked again"


def test_claims_add_up() -> None:
    both = Claims(4, 1, 10, 2, 1) + Claims(0, 0, 10, 0, 0)
    assert (both.false_share, both.missed_share, both.beside_share) == (0.25, 0.1, 0.05)
    assert both.cost == pytest.approx(0.4)
    assert Claims().cost == 0


def test_nothing_is_written_on_a_dry_run_and_in_place_otherwise(tmp_path, scenes, tiny_weights) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(tiny_weights.read_bytes())
    report = calibrate(TINY, path, sequences=[scenes], scenes=0, write=False)
    assert report.path is None
    assert path.read_bytes() == tiny_weights.read_bytes()
    metadata = write_thresholds(path, path, replace(report.after, history=0.25), {})
    assert list(tmp_path.iterdir()) == [path]
    assert load_tensors(path)[1] == metadata
    assert build_tracker(TINY, path, engine="torch", device="cpu").thresholds.history == 0.25


def test_a_calibration_without_absences_or_weights_is_refused(tmp_path, call, tiny_weights) -> None:
    always = tmp_path / "always"
    write_scene(always, frames=6)
    with pytest.raises(CalibrationError, match="no footage in which the target is absent"):
        calibrate(TINY, tiny_weights, sequences=[always], scenes=0)
    with pytest.raises(CalibrationError, match="scenes is -1; expected 0 or more"):
        calibrate(TINY, tiny_weights, scenes=-1)
    with pytest.raises(WeightsFileError, match="not of sdstrack_s128"):
        calibrate("sdstrack_s128", tiny_weights)
    with pytest.raises(WeightsFileError, match="cannot be written"):
        write_thresholds(tiny_weights, always / "groundtruth.txt" / "w.safetensors", Thresholds(), {})
    output = call("calibrate", "--model", TINY, "--weights", tiny_weights, "--sequences", tmp_path / "nowhere")
    assert "no folder" in output


def test_footage_without_a_single_box_is_named(tmp_path, tiny_weights) -> None:
    scene = write_scene(tmp_path / "empty", frames=4)
    (scene / "groundtruth.txt").write_text("nan,nan,nan,nan\n" * 4)
    with pytest.raises(SequenceError, match="sequence empty has no frame with a box"):
        calibrate(TINY, tiny_weights, sequences=[tmp_path], scenes=0, write=False)
