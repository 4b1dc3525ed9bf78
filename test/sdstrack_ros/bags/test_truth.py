from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ckd_core.frame import BoundingBox
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.bags.truth import (
    NOT_ANNOTATED,
    TRUTH_TOLERANCE_NS,
    EvaluationError,
    FrameTruth,
    RecordedTruth,
    TruthBox,
    load_truth,
)
from sdstrack_ros.bags.writer import TRUTH_TOPIC, write_bag
from testkit.bags.scenes import random_frames

if TYPE_CHECKING:
    from pathlib import Path

BOX, OTHER = BoundingBox(1, 2, 30, 40), BoundingBox(5, 6, 7, 8)
MS = 1_000_000


def test_a_true_box_belongs_to_the_nearest_stamp_within_the_tolerance() -> None:
    truth = RecordedTruth(by_stamp=(TruthBox(100 * MS, BOX), TruthBox(133 * MS, None), TruthBox(134 * MS, OTHER)))
    assert truth.at(100 * MS - TRUTH_TOLERANCE_NS) == FrameTruth(BOX, True)
    assert truth.at(100 * MS + TRUTH_TOLERANCE_NS) == FrameTruth(BOX, True)
    assert truth.at(133 * MS + 1) == FrameTruth(None, True), "an absence is annotated"
    assert truth.at(134 * MS - 1) == FrameTruth(OTHER, True)
    for stamp_ns in (0, 100 * MS - TRUTH_TOLERANCE_NS - 1, 120 * MS, 136 * MS):
        assert truth.at(stamp_ns) == NOT_ANNOTATED


def test_boxes_in_order_belong_to_the_colour_frames() -> None:
    truth = RecordedTruth(in_order=(BOX, None), source="truth.txt")
    stamps = (0, 10, 20)
    assert truth.of_frames(stamps, (True, False, True)) == (
        FrameTruth(BOX, True), NOT_ANNOTATED, FrameTruth(None, True),
    )  # fmt: skip
    with pytest.raises(EvaluationError, match=r"truth\.txt has 2 boxes, the recording 3 colour frames; expected one"):
        truth.of_frames(stamps, (True, True, True))


def test_a_file_comes_before_the_topic_and_an_empty_box_means_absent(tmp_path: Path) -> None:
    file = tmp_path / "truth.txt"
    file.write_text("1,2,30,40\nnan,nan,nan,nan\n5,6,0,8\n")
    with open_bag(write_bag(tmp_path / "bag", random_frames(3), [OTHER] * 3)) as bag:
        assert load_truth(bag, TRUTH_TOPIC, file).in_order == (BOX, None, None)
        assert [truth.box for truth in load_truth(bag, TRUTH_TOPIC, None).by_stamp] == [OTHER] * 3
        assert not load_truth(bag, "", None)
