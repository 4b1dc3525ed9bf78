from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality
from sdstrack_ros.bags.frames import choose_topics
from sdstrack_ros.bags.storage.opening import BagError, open_bag
from sdstrack_ros.bags.truth import read_truth_boxes
from sdstrack_ros.bags.writer import AUX_TOPICS, TRUTH_TOPIC, write_bag
from sdstrack_ros.messages.stamps import NS_PER_S
from testkit.bags.scenes import random_frames, read_frames, same_images


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize(("storage", "compression"), [("mcap", "none"), ("mcap", "zstd"), ("sqlite3", "zstd")])
def test_frames_are_read_back_as_they_were_written(
    tmp_path: Path, modality: Modality, storage: str, compression: str
) -> None:
    frames = random_frames(modality=modality)
    path = write_bag(tmp_path / "bag", frames, storage=storage, compression=compression)
    read = list(read_frames(path, modality))
    assert len(read) == len(frames)
    assert all(same_images(a, b) for a, b in zip(read, frames, strict=True))
    assert [f.stamp - read[0].stamp for f in read] == pytest.approx([f.stamp for f in frames], abs=1e-6)
    assert not list(tmp_path.glob(".*")), "no staging folder may stay"


@pytest.mark.parametrize(
    ("modality", "aux_type"), [(Modality.DEPTH, np.float32), (Modality.THERMAL, np.uint16), (Modality.DEPTH, np.uint16)]
)
def test_every_type_of_auxiliary_image_is_read_back_exactly(tmp_path: Path, modality: Modality, aux_type: Any) -> None:
    frames = random_frames(3, modality, aux_type)
    raw = write_bag(tmp_path / "raw", frames)
    assert all(same_images(a, b) for a, b in zip(read_frames(raw, modality), frames, strict=True))
    if aux_type is not np.float32:
        png = write_bag(tmp_path / "png", frames, images="png")
        assert all(same_images(a, b) for a, b in zip(read_frames(png, modality), frames, strict=True))
        with open_bag(png) as bag:
            topic = AUX_TOPICS[modality] + ("/compressedDepth" if modality is Modality.DEPTH else "/compressed")
            assert topic in {item.name for item in bag.topics}, "where the node subscribes"


def test_true_boxes_and_absences_are_read_back(tmp_path: Path) -> None:
    boxes = [BoundingBox(3, 4.5, 10, 12), None, BoundingBox(5, 6, 7, 8)]
    with open_bag(write_bag(tmp_path / "bag", random_frames(5), boxes)) as bag:
        truth = read_truth_boxes(bag, TRUTH_TOPIC)
        assert choose_topics(bag, Modality.THERMAL).truth == TRUTH_TOPIC
    assert [t.box for t in truth] == boxes
    assert truth[1].stamp_ns - truth[0].stamp_ns == round(NS_PER_S / 30)


def test_an_impossible_recording_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    frames = random_frames(2)
    for options, message in [
        ({"storage": "db"}, "unknown storage 'db'; expected mcap or sqlite3"),
        ({"compression": "lz4"}, "compression 'lz4'"),
        ({"images": "jpeg"}, "images 'jpeg'"),
    ]:
        with pytest.raises(BagError, match=message):
            write_bag(tmp_path / "bag", frames, **options)
    with pytest.raises(BagError, match="no frames"):
        write_bag(tmp_path / "bag", [])
    with pytest.raises(BagError, match="stamps must ascend"):
        write_bag(tmp_path / "bag", [frames[0], frames[0]])
    with pytest.raises(BagError, match="no image message can carry a depth image of int32"):
        write_bag(tmp_path / "bag", random_frames(1, Modality.DEPTH, np.int32))
    assert not list(tmp_path.iterdir())
    write_bag(tmp_path / "bag", frames)
    with pytest.raises(BagError, match="already exists"):
        write_bag(tmp_path / "bag", frames)
