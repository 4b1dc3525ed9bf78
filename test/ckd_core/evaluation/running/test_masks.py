"""Missing cameras by frame as benchmarks publish them, and random patches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.sequences import open_sequence
from ckd_core.evaluation.running.conditions import ConditionError, parse_condition
from ckd_core.evaluation.running.masks import MaskError, read_masks
from ckd_core.evaluation.running.records import track_sequence
from ckd_core.frame import Modality
from ckd_core.tracking import build_tracker
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckd_core.data.sequences import Sequence

FLAGS = [[1, 1], [1, 1], [1, 0], [0, 1], [0, 0], [1, 1]]


@pytest.fixture
def walk(tmp_path: Path) -> Sequence:
    return open_sequence(write_scene(tmp_path / "data" / "walk", frames=6))


def masks(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_both_published_forms_and_text_files_say_the_same(tmp_path: Path) -> None:
    plain = masks(tmp_path / "a.json", {"walk": np.array(FLAGS, dtype=float).tolist()})
    groups = {
        "Group1": {"missing_function": "random", "sequences": [["walk", {"frames": 6, "modalities": FLAGS}, 0.3]]}
    }
    nested = masks(tmp_path / "b.json", {"Group1_all": groups})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "walk.txt").write_text("".join(f"{a},{b}\n" for a, b in FLAGS))
    read = [read_masks(path) for path in (plain, nested, tmp_path / "c")]
    for item in read:
        np.testing.assert_array_equal(item.of("walk", 6), np.array(FLAGS, dtype=bool))
    assert len({item.name.split("-")[1] for item in read}) == 1, "the same flags have the same checksum"


def test_frames_without_any_image_keep_the_box_and_are_lost(tmp_path: Path, walk: Sequence, tiny_weights: Path) -> None:
    condition = parse_condition(f"masks={masks(tmp_path / 'miss.json', {'walk': FLAGS})}")
    assert str(condition).startswith("masks=miss-")
    tracker = build_tracker(TINY, tiny_weights, Modality.THERMAL, engine="torch/fp32", device="cpu", threads=1)
    record = track_sequence(tracker, walk, condition)
    assert record.presence.tolist() == np.array(FLAGS, dtype=bool).tolist()
    np.testing.assert_array_equal(record.boxes[4], record.boxes[3])
    assert (record.scores[4], record.states[4]) == (0.0, "LOST")
    assert record.seconds[4].sum() == 0
    assert record.seconds[5].sum() > 0


def test_robustness_reads_masks(tmp_path: Path, walk: Sequence, tiny_weights: Path, call: Callable[..., str]) -> None:
    words = [
        "robustness",
        "-d",
        "folder",
        "--root",
        tmp_path / "data",
        "--out",
        tmp_path / "out",
        "--weights",
        tiny_weights,
    ]
    words += ["--device", "cpu", "--threads", 1]
    said = call(*words, "--conditions", f"masks={masks(tmp_path / 'miss.json', {'walk': FLAGS})},occluded=0.5@aux")
    rows = json.loads((tmp_path / "out" / "robustness.json").read_text())["robustness"]
    assert [row["condition"].split("-")[0] for row in rows] == ["full", "masks=miss", "occluded=0.5@aux"], said
    assert rows[1]["frames_with_both"] == pytest.approx(2 / 5)
    said = call(*words, "--conditions", f"masks={masks(tmp_path / 'short.json', {'walk': FLAGS[:4]})}")
    assert "have 4 rows for walk, which has 6 frames; must be equal" in said
    said = call(*words, "--conditions", f"masks={masks(tmp_path / 'other.json', {'run': FLAGS})}")
    assert "have no sequence walk; they have run, ..." in said
    assert walk.name == "walk"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"walk": []}, "walk has no flags: the file says how images go missing, not which"),
        ({"walk": [[1, 1, 1]]}, r"the shape \(1, 3\); expected \(frames, 2\)"),
        ({"walk": [[1, 1], [0.5, 1]]}, r"row 2 is \[0.5, 1.0\]; expected flags 0 or 1"),
        ({"walk": [[1, 1], "x"]}, "is not rows of two flags"),
        ([1], "where a mapping was expected"),
        ({}, "has no masks; expected a .json of"),
        ({"g": {"sequences": [["walk"]]}}, r"expected \[name, \{modalities\}\]"),
        ({"a": {"w": [[1, 1]]}, "b": {"w": [[1, 1]]}}, "two masks for w"),
    ],
)
def test_broken_masks_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        read_masks(masks(tmp_path / "m.json", content))


def test_files_that_are_no_masks_are_refused(tmp_path: Path, walk: Sequence) -> None:
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(MaskError, match="cannot read masks"):
        read_masks(tmp_path / "m.json")
    with pytest.raises(MaskError, match="is no file or folder of masks"):
        read_masks(tmp_path / "m.txt")
    start = masks(tmp_path / "s.json", {"walk": [[0, 0], *FLAGS[1:]]})
    with pytest.raises(ConditionError, match="no image in frame 1, where the tracker starts"):
        parse_condition(f"masks={start}").presence(walk)


def test_random_patches_hide_a_share_of_each_camera(walk: Sequence) -> None:
    condition = parse_condition("occluded=0.3@both")
    present = condition.presence(walk)
    first, frame, later = (condition.frame(walk, index, present) for index in (0, 3, 4))
    assert first.rgb is not None and first.aux is not None and frame.rgb is not None and frame.aux is not None
    assert later.rgb is not None
    np.testing.assert_array_equal(first.rgb, walk.frame(0).rgb)
    hidden, hidden_aux = (frame.rgb == 0).all(axis=2), frame.aux == 0
    assert hidden.mean() == pytest.approx(0.3, abs=0.02)
    assert hidden_aux.mean() == pytest.approx(0.3, abs=0.02)
    assert (hidden != hidden_aux).any(), "the cameras lose different patches"
    assert (hidden != (later.rgb == 0).all(axis=2)).any(), "each frame has its own"
    again = condition.frame(walk, 3, present)
    np.testing.assert_array_equal(again.rgb, frame.rgb)
    aux_alone = parse_condition("occluded=1@aux").frame(walk, 3, present)
    assert aux_alone.aux is not None
    assert not aux_alone.aux.any()
    np.testing.assert_array_equal(aux_alone.rgb, walk.frame(3).rgb)
    with pytest.raises(ConditionError, match="amount must be at most 1"):
        parse_condition("occluded=1.5")
