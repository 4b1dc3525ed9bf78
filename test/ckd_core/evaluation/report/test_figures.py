from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.report.figures import box_rows, compared_tracks, honesty_table, state_rows
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.trackers import NanoTrackSpec
from ckd_core.evaluation.scoring.track_figures import TrackFrames

if TYPE_CHECKING:
    from pathlib import Path


def moved(by: float, count: int = 101) -> TrackFrames:
    truth = np.tile([50.0, 50.0, 20.0, 20.0], (count, 1))
    every, never = np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    return TrackFrames(truth + np.array([by, 0.0, 0.0, 0.0]), truth, every, never, every)


def test_the_limits_of_honest_states_are_held_against_all_frames_together() -> None:
    """202 frames in view after the given ones, all TRACKING; 3 of them beside the target, found after 3 frames."""
    slip = moved(0.0)
    slip.boxes[50:53] += [100.0, 0.0, 0.0, 0.0]
    rows = state_rows("x", {"a": slip, "b": moved(0.0)})
    assert [row.sequence for row in rows] == ["a", "b", "mean"]
    assert rows[0].false_tracking == 3 / 100
    assert rows[2].false_tracking == 3 / 200, "the mean is over frames, not over sequences"
    assert "| x | 1.5% of 200: yes | 0.0% of 200: yes | 100.0% of 1: yes |" in honesty_table(rows)
    never = state_rows("x", {"a": TrackFrames(slip.boxes, slip.truth, ~slip.tracking, slip.lost, slip.labelled)})
    assert "| x | nothing to count (of 0) | 97.0% of 100: no | 0.0% of 1: no |" in honesty_table(never)


@pytest.mark.shared
def test_nanotrack_stands_beside_a_tracker_on_both_cameras(shared_data: Path, tmp_path: Path) -> None:
    """Two real sequences, one of them with colour alone."""
    names = ["rgb_dlib_juicebox", "rgbe_evbench_seq2"]
    inputs = open_inputs(open_dataset("folder", shared_data / "sequences").select(names))
    weights = shared_data / "baselines" / "nanotrack" / "nanotrackv2"
    plan = RunPlan(inputs, NanoTrackSpec(weights), tmp_path / "run", device="cpu", threads=1)
    tracks = compared_tracks(plan, weights, lambda *_: None)
    assert list(tracks) == ["NanoTrack (rgb)", "NanoTrack (aux)", "NanoTrack (better camera)"]
    aucs = {label: {row.sequence: row for row in box_rows(label, found)} for label, found in tracks.items()}
    better, rgb, aux = (aucs[f"NanoTrack ({name})"] for name in ("better camera", "rgb", "aux"))
    assert set(aux) == {"rgbe_evbench_seq2", "mean"}
    assert better["rgbe_evbench_seq2"].auc == max(rgb["rgbe_evbench_seq2"].auc, aux["rgbe_evbench_seq2"].auc)
    assert rgb["rgb_dlib_juicebox"].auc == pytest.approx(0.894, abs=0.002)
    assert rgb["rgb_dlib_juicebox"].auc_true_size == pytest.approx(0.902, abs=0.002)
    assert rgb["rgb_dlib_juicebox"].auc_true_center == pytest.approx(0.939, abs=0.002)
