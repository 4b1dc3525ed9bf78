from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import StageTiming, TrackResult, TrackState
from sdstrack_ros.bags.evaluate import EvaluateRequest, evaluate
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.report import write_bag_report
from sdstrack_ros.bags.scoring import bag_input, evaluate_offline
from sdstrack_ros.bags.streaming import evaluate_streaming
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.sync.types import SyncConfig
from testkit.browser import browse

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 30


class Follower:
    """Follows the bright square, loses it in frame 20, and answers nothing usable in frame 25."""

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:
        self.box, self.count = box, 0
        return box

    def update(self, frame: MultiModalFrame) -> TrackResult:
        self.count += 1
        assert frame.rgb is not None
        ys, xs = np.nonzero(frame.rgb[..., 0] > 200)
        if self.count != 20:
            self.box = BoundingBox(int(xs.min()), int(ys.min()), 20, 20)
        state = TrackState.UNCERTAIN if self.count == 20 else TrackState.TRACKING
        timing = StageTiming(0.001, 0.010, 0.002)
        return TrackResult(frame.stamp, self.box, 0.5 if self.count == 20 else 0.9, state, timing=timing)

    def reset(self) -> None:
        self.count = 0


def film() -> tuple[list[MultiModalFrame], list[BoundingBox | None]]:
    frames, boxes = [], []
    for i in range(COUNT):
        rgb = np.full((64, 320, 3), 30, dtype=np.uint8)
        rgb[20:40, 10 + 9 * i : 30 + 9 * i] = 250
        frames.append(MultiModalFrame(i / 30, rgb, rgb[..., 0].copy(), Modality.THERMAL))
        boxes.append(BoundingBox(10 + 9 * i, 20, 20, 20))
    return frames, boxes


def test_the_report_page_agrees_with_the_summaries(tmp_path: Path) -> None:
    source = bag_input(write_bag(tmp_path / "walk", *film()), Modality.THERMAL, BagTopics(), SyncConfig())
    offline = evaluate_offline(source, Follower())
    live = evaluate_streaming(source, Follower(), latency_s=0.05)
    assert offline.summary is not None
    page = write_bag_report(tmp_path / "out", source, offline, live, {"bag": "walk"})
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = {name: tracker["metrics"] for name, tracker in report["trackers"].items()}
    assert scores["every frame"]["AUC"] == pytest.approx(offline.summary.auc)
    assert scores["every frame"]["PR"] == pytest.approx(offline.summary.precision)
    assert scores["as live"]["AUC"] == pytest.approx(live.summary.auc)
    assert scores["as live"]["AUC"] < scores["every frame"]["AUC"]
    assert report["runs"]["every frame"]["latency_ms"]["p50"] == pytest.approx(13.0)
    worst = report["runs"]["every frame"]["worst_moments"][0]
    assert worst["frame"] == 20
    assert report["runs"]["as live"]["provenance"]["dropped"] == live.dropped > 0
    with (tmp_path / "out" / "sequences.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["every frame AUC"]) == pytest.approx(offline.summary.auc, abs=1e-6)
    text = page.read_text()
    assert f"{COUNT} frames ({COUNT} pairs," in text
    for heading in ("Timelines: every frame", "Timelines: as live", "Worst moments: every frame", "Latency"):
        assert f"<h2>{heading}" in text
    assert "<h2>Curves" in browse(page, tmp_path / "profile", "--dump-dom")


BAGS = ("rgbt_clip_0111_1753_mcap_compressed", "event_packets_test_events_1")


@pytest.mark.shared
@pytest.mark.parametrize("name", BAGS)
def test_the_page_of_a_real_recording_opens_in_a_browser(shared_data: Path, tmp_path: Path, name: str) -> None:
    """The recorded clip with its time stamps and latencies, and real event packets without any image."""
    events = name.startswith("event")
    truth = shared_data / "sequences" / "rgbt_m3svd_clip_0111_1753" / "groundtruth.txt"
    overrides = {"engine": "torch/fp32", "device": "cpu", "modality": "event" if events else "thermal"}
    if events:
        overrides["event_input"] = "packets"
    request = EvaluateRequest(
        shared_data / "bags" / name,
        overrides=overrides,
        truth_file=None if events else truth,
        init_box="300,40,60,200" if events else None,
        realtime=not events,
        out=tmp_path / "out",
    )
    lines = list(evaluate(request))
    assert lines[-1] == f"wrote {tmp_path / 'out' / 'report.html'}"
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    stamps = [frame["stamp_ns"] for frame in result["frames"]]
    assert stamps == sorted(set(stamps))
    assert result["rejected"] == {}
    assert len(stamps) == (54 if events else 20)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["runs"]["every frame"]["latency_ms"]["p50"] > 0
    assert bool(report["trackers"]) is not events
    if not events:
        assert report["runs"]["as live"]["provenance"]["latency"]["measured"] is True
    page = tmp_path / "out" / "report.html"
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    assert dom.count("data:image/jpeg") == len(report["runs"]["every frame"]["worst_moments"]) > 2
    shot = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1300,1800")
    image = cv2.imread(str(shot))
    assert image is not None
    tracker_box = (np.abs(image.astype(int) - (0, 94, 213)).max(axis=2) < 40).sum()
    assert tracker_box > 200, "the tracker's box is not on the thumbnails"
