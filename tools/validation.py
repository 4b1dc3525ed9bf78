"""The model card's table "Validation" for any weights: `python -m tools.validation OUT --root DATA --teacher DIR`.

Every row is a run of `sdstrack benchmark` with the tracker's defaults; OUT keeps runs and footage, so a call goes on
where one stopped. The clips are those that the recipe of the default weights keeps out of training, followed by the
teacher as `sdstrack label` does it; their boxes are the teacher's.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.footage import Footage, recording_footage
from ckd_core.data.open_sequences import VALIDATION
from ckd_core.data.real.teacher import LabelSettings, Teacher, label_clip
from ckd_core.data.real.video import read_video
from ckd_core.data.smoke_trials import smoke_trials
from ckd_core.data.trials import FRESH, SEEN, trials, validation_folders, write_trials
from ckd_core.evaluation.benchmark import open_plan
from ckd_core.evaluation.report.figures import box_rows, state_rows, tracks_of
from ckd_core.evaluation.report.table_files import markdown_table
from ckd_core.evaluation.running.options import BenchmarkOptions
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.frame import Modality, MultiModalFrame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckd_core.evaluation.scoring.track_figures import TrackFrames
    from ckd_core.frame import Image

# Kept out of training by config/train/default_sdstrack_m256.yaml; the folder says whether they are thermal.
CLIPS = (
    "real_video/m3svd_infrared/0114_1611_a.mp4",
    "real_video/m3svd_infrared/0114_1611_b.mp4",
    "real_video/m3svd_infrared/1208_1717_a.mp4",
    "real_video/m3svd_infrared/1208_1717_b.mp4",
    "real_video/intel_sample_videos/store-aisle-detection.mp4",
    "real_video/intel_sample_videos/worker-zone-detection.mp4",
)
SCENES = {**{f"seen_{number}": scenes for number, scenes in enumerate(SEEN, 1)}, "fresh": FRESH}  # without recordings
REAL = "real"
SHORTEST, FPS = 20, 25.0  # frames of a track that is used; the clips' stamps
FEWEST = 8  # frames of a run from another start
STARTS = (0.25, 0.5)  # where further runs through a sequence begin, as shares of it


@dataclass(frozen=True, slots=True)
class Part:
    """A row of the table: sequences under one or several conditions.

    Attributes:
        name: For the command line and for folders.
        text: For the table.
        footage: What is written for it (see `write_footage`); "real": nothing, the validation sequences themselves.
        conditions: See `sdstrack robustness`; a run each.
        two_cameras: Only sequences that have both.
    """

    name: str
    text: str
    footage: str
    conditions: tuple[str, ...] = ("full",)
    two_cameras: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """Which tracker runs on what.

    Attributes:
        out: Folder of the runs.
        root: Folder of sequences, sequences_hard and training.
        footage: Folder of the footage.
        teacher: Folder of NanoTrack's ONNX files; the part clips alone needs it.
        model: See `sdstrack benchmark`, as the following ones.
        weights: See there.
        engine: See there.
        ego_motion: See there.
        published: See there.
    """

    out: Path
    root: Path
    footage: Path
    teacher: Path | None = None
    model: str | None = None
    weights: Path | None = None
    engine: str = "openvino/fp32"
    ego_motion: bool = False
    published: bool = False


PARTS = (
    Part("real", "real sequences", REAL),
    Part("starts", "the same from other frames, forwards and backwards", "starts"),
    Part("half", "the same at half the rate", REAL, ("rate=2",)),
    Part("starts_half", "those at half the rate", "starts", ("rate=2",)),
    Part("loose", "start box off by 15 %", REAL, ("start_box=0.15",)),
    Part("starts_loose", "other starts, the box off by 15 %", "starts", ("start_box=0.15",)),
    Part("misaligned", "auxiliary camera 10 px beside", REAL, ("misaligned=10",), two_cameras=True),
    Part("alone", "each camera alone", REAL, ("rgb_only", "aux_only"), two_cameras=True),
    Part("gone", "colour gone from frame 10 on", REAL, ("rgb_gone=10",), two_cameras=True),
    Part("clips", "clips kept out of training", "clips"),
    Part("smoke", "smoke before colour", "smoke"),
    Part("trials", "trials of the states", "trials"),
    *(
        Part(f"seen_{number}", f"trials of other scenes, seen since ({number})", f"seen_{number}")
        for number in range(1, len(SEEN) + 1)
    ),
    Part("fresh", "trials of other scenes, not seen", "fresh"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the footage that is missing, run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="folder of sequences, sequences_hard and training")
    parser.add_argument("--teacher", type=Path, help="folder of NanoTrack v2's ONNX files; needed for clips")
    parser.add_argument("--footage", type=Path, help="folder of the footage; default: OUT/footage")
    parser.add_argument("--model", default=None)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--engine", default="openvino/fp32")
    parser.add_argument("--ego-motion", action="store_true", help="see sdstrack benchmark")
    parser.add_argument("--published", action="store_true", help="see sdstrack benchmark")
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS))
    options = parser.parse_args(arguments)
    wanted = options.parts.split(",")
    unknown = sorted(set(wanted) - {part.name for part in PARTS})
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; expected some of {', '.join(c.name for c in PARTS)}")
    parts = [part for part in PARTS if part.name in wanted]
    if options.teacher is None and any(part.footage == "clips" for part in parts):
        parser.error("the part clips needs --teacher FOLDER, with NanoTrack v2's two ONNX files in it")
    request = Request(
        options.out,
        options.root,
        options.footage or options.out / "footage",
        options.teacher,
        options.model,
        options.weights,
        options.engine,
        options.ego_motion,
        options.published,
    )
    lines = []
    for part in parts:
        tracks = part_tracks(part, request)
        boxes, states = box_rows("", tracks)[-1], state_rows("", tracks)[-1]
        shares = (states.false_tracking, states.shyness, states.found_in_30)
        cells = [f"{boxes.auc:.3f}", *("-" if math.isnan(share) else f"{share:.1%}" for share in shares)]
        lines.append([f"{part.text} ({len(tracks)})", *cells])
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    print(
        markdown_table(["footage (runs)", "success AUC", "false TRACKING", "shyness", "found within 30 frames"], lines)
    )
    return 0


def part_tracks(part: Part, request: Request) -> dict[str, TrackFrames]:
    """Write the footage of a row and run what is missing; its tracks by sequence and condition."""
    if part.footage != REAL:
        write_footage(part.footage, request.footage, request.root, request.teacher)
    tracks: dict[str, TrackFrames] = {}
    for condition in part.conditions:
        plan = open_plan(benchmark_options(part, condition, request))
        tracks |= {f"{name} {condition}": track for name, track in tracks_of(run_benchmark(plan)).items()}
    return tracks


def benchmark_options(part: Part, condition: str, request: Request) -> BenchmarkOptions:
    """The run of `sdstrack benchmark` behind a row under one condition."""
    real = part.footage == REAL
    folders = validation_folders(request.root) if real else sorted((request.footage / part.footage).iterdir())
    names = [path.name for path in folders if not part.two_cameras or _has_two_cameras(path)]
    return BenchmarkOptions(
        root=request.root if real else request.footage / part.footage,
        dataset="folder",
        split=VALIDATION if real else None,
        out=request.out / f"{part.name}_{condition}",
        model=request.model,
        weights=request.weights,
        sequences=",".join(names),
        engine=request.engine,
        condition=condition,
        ego_motion=request.ego_motion,
        published=request.published,
        device="cpu",
        threads=1,
    )


def _has_two_cameras(folder: Path) -> bool:
    return len([path for path in folder.iterdir() if path.is_dir()]) > 1


def write_footage(name: str, folder: Path, root: Path, teacher: Path | None) -> None:
    """Write the footage of a `Part` into a folder of that name, unless it is there."""
    if (folder / name).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if name == "clips" and teacher is not None:
        write_trials(folder / name, clips(root / "training", Teacher(teacher)))
    elif name in SCENES:
        write_trials(folder / name, trials([], SCENES[name]))
    else:
        make = {"starts": starts, "smoke": smoke_trials, "trials": trials}[name]
        write_trials(folder / name, make(validation_folders(root)))


def starts(folders: list[Path]) -> Iterator[Footage]:
    """Every sequence from other frames on, and backwards: a run that one unlucky frame decides counts less."""
    for whole in map(recording_footage, folders):
        for footage, shares in ((whole, STARTS), (_backwards(whole), (0.0, *STARTS))):
            seen = np.flatnonzero(np.isfinite(footage.boxes).all(axis=1)).tolist()
            wanted = [round(share * len(footage)) for share in shares]
            firsts = {next((index for index in seen if index >= least), len(footage)) for least in wanted}
            for first in sorted(firsts):  # two may fall together where the target is away
                if len(footage) - first >= FEWEST:
                    yield replace(footage.since(first), name=f"{footage.name} from {first}")


def _backwards(footage: Footage) -> Footage:
    last = len(footage) - 1
    end = footage.frame(last).stamp

    def frame(index: int) -> MultiModalFrame:
        seen = footage.frame(last - index)
        return replace(seen, stamp=end - seen.stamp)

    boxes, labelled = footage.boxes[::-1], footage.labelled[::-1]
    return replace(footage, name=f"{footage.name} backwards", boxes=boxes, labelled=labelled, frame=frame)


def clips(root: Path, teacher: Teacher) -> Iterator[Footage]:
    """The two longest tracks through each of `CLIPS`, through one camera."""
    for clip in CLIPS:
        thermal, images = "infrared" in clip, read_video(root / clip)
        tracks = [t for t in label_clip(images, teacher, LabelSettings(), thermal) if len(t.boxes) >= SHORTEST]
        for number, track in enumerate(sorted(tracks, key=lambda track: -len(track.boxes))[:2]):
            boxes = np.array(track.boxes, dtype=np.float64)
            show = partial(_frame, images[track.first : track.first + len(boxes)], thermal)
            yield Footage(f"{Path(clip).stem} {number}", Modality.THERMAL, boxes, np.ones(len(boxes), np.bool_), show)


def _frame(images: Sequence[Image], thermal: bool, index: int) -> MultiModalFrame:
    rgb = None if thermal else cv2.cvtColor(images[index], cv2.COLOR_BGR2RGB)
    aux = cv2.cvtColor(images[index], cv2.COLOR_BGR2GRAY) if thermal else None
    return MultiModalFrame(index / FPS, rgb, aux, Modality.THERMAL)


if __name__ == "__main__":
    raise SystemExit(main())
