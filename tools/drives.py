"""Positions of a target before a camera that drives, over many synthetic recordings: `python -m tools.drives`.

Each recording has a target, four other figures, half of them its likeness, and depth; its length and size are those of
docs/evaluation.md. The node's default network follows the target in one row, an oracle that knows its box in the other.
Prints the table, or puts it into the Markdown document `--page`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.scoring import bag_input, evaluate_offline
from sdstrack_ros.bags.space import KNOWN_VELOCITY, PoseEvaluation, read_space
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.parameters.checks import settings_from
from sdstrack_ros.sync.types import SyncConfig
from sdstrack_ros.tracking.warm_tracker import build_warm_tracker
from testkit.reliability.about import about
from tools.paste_table import paste

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckd_core.frame import MultiModalFrame
    from ckd_core.tracking.tracker import FrameTracker

    Boxes = list[BoundingBox | None]

FRAMES, SIZE, FPS = 45, (320, 240), 15.0
FAR_SHARE = 0.05  # of the distance: recordings with more are listed


class Oracle:
    """A tracker that knows the true boxes."""

    def __init__(self, boxes: Boxes) -> None:
        self._boxes, self._index = boxes, 0

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:  # noqa: ARG002
        """Begin with the first true box."""
        self._index = 0
        return box

    def update(self, frame: MultiModalFrame) -> TrackResult:
        """The next true box; LOST where the target is not visible."""
        self._index += 1
        box = self._boxes[self._index]
        state = TrackState.TRACKING if box else TrackState.LOST
        return TrackResult(frame.stamp, box or BoundingBox(0, 0, 10, 10), 1.0, state)

    def reset(self) -> None:
        """Begin again."""
        self._index = 0


class Drives:
    """Recordings by their seeds, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = settings_from({"modality": Modality.DEPTH.value, "threads": 1})
        self._network = build_warm_tracker(self._settings).tracker

    def follow(self, seed: int) -> tuple[PoseEvaluation, PoseEvaluation]:
        """Follow the target of one recording with the network, and with the true boxes."""
        recording = clip(seed, Modality.DEPTH, FRAMES, SIZE, FPS, movement="drive")
        boxes: Boxes = [BoundingBox(*row) if np.isfinite(row).all() else None for row in recording.boxes]
        path = write_bag(self._folder / str(seed), recording.frames, boxes, space=recording.space)
        return self._evaluate(path, self._network), self._evaluate(path, Oracle(boxes))

    def _evaluate(self, path: Path, tracker: FrameTracker) -> PoseEvaluation:
        with open_bag(path) as bag:
            space = read_space(bag)
        if space is None:
            raise SystemExit(f"{path} was written without true poses")
        poses = PoseEvaluation(space, self._settings)
        evaluate_offline(bag_input(path, Modality.DEPTH, BagTopics(), SyncConfig()), tracker, observe=poses.observe)
        return poses


def row_of(name: str, evaluations: Sequence[PoseEvaluation]) -> dict[str, object]:
    """A row of the table."""
    total = PoseEvaluation.of_all(evaluations)
    if total is None:
        raise SystemExit(f"{name}: no pose in any recording")
    each = [(summary.rms_share if (summary := one.summary()) else 1.0) for one in evaluations]
    early = np.array([one.first_velocity for one in evaluations])
    early = early[np.isfinite(early)]
    return {
        "boxes": name,
        "RMS error": f"{total.rms_m:.3f} m",
        "of the distance": f"{total.rms_share:.1%}",
        "median recording": f"{np.median(each):.1%}",
        "worst": f"{max(each):.1%}",
        f"recordings above {FAR_SHARE:.0%}": sum(share > FAR_SHARE for share in each),
        "frames with a pose": f"{total.frames} of {total.frames + total.missing}",
        "inside the 95 % ellipse": f"{total.inside_95:.1%}",
        "unseen": f"{total.coasting_rms_m:.2f} m",
        f"velocity after 1 s, below {KNOWN_VELOCITY:g} m/s": f"{(early < KNOWN_VELOCITY).sum()} of {len(early)}",
        "its RMS error": f"{np.sqrt(np.mean(early**2)):.2f} m/s",
    }


def main() -> None:
    """Parse the command line, follow, print or write."""
    parser = argparse.ArgumentParser(prog="python -m tools.drives", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed; the settings were chosen on 1000 to 1079")
    parser.add_argument("--count", type=int, default=40, help="recordings")
    parser.add_argument("--page", type=Path, help="Markdown document with the table")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    with tempfile.TemporaryDirectory() as folder:
        drives = Drives(Path(folder))
        pairs = [drives.follow(seed) for seed in seeds]
    for seed, (followed, _) in zip(seeds, pairs, strict=True):
        summary = followed.summary()
        if summary is None or summary.rms_share > FAR_SHARE:
            print(f"seed {seed}: {summary}")
    network, true = zip(*pairs, strict=True)
    rows = [row_of("of the default network", network), row_of("true", true)]
    lines = [
        f"{options.count} recordings of {FRAMES / FPS:g} s (seeds {seeds[0]} to {seeds[-1]});"
        f" {', '.join(about().values())}.",
        "",
        f"| {' | '.join(rows[0])} |",
        "|---" * len(rows[0]) + "|",
        *(f"| {' | '.join(map(str, row.values()))} |" for row in rows),
    ]
    table = "\n".join(lines)
    if options.page:
        paste(options.page, "drives", table)
    print(table)


if __name__ == "__main__":
    main()
