"""The model card's table "Validation" for any weights: `python -m tools.validation OUT --root DATA --teacher DIR`.

Every row is a run of `sdstrack benchmark` with the tracker's defaults; OUT keeps runs and footage, so a call goes on
where one stopped. The clips are those that the recipe of the default weights keeps out of training, followed by the
teacher as `sdstrack label` does it; their boxes are the teacher's.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.real.teacher import LabelSettings, Teacher, label_clip
from ckd_core.data.real.video import read_video
from ckd_core.data.sequences import write_sequence
from ckd_core.data.smoke_trials import smoke_trials
from ckd_core.data.trials import trials, validation_folders, write_trials
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
SHORTEST, FPS = 20, 25.0  # frames of a track that is used; the clips' stamps


@dataclass(frozen=True, slots=True)
class Part:
    """A row of the table: sequences of a folder of footage, under one or several conditions."""

    name: str
    text: str
    footage: str
    conditions: tuple[str, ...] = ("full",)
    two_cameras: bool = False


PARTS = (
    Part("real", "real sequences", "real"),
    Part("half", "the same at half the rate", "real", ("rate=2",)),
    Part("misaligned", "auxiliary camera 10 px beside", "real", ("misaligned=10",), two_cameras=True),
    Part("alone", "each camera alone", "real", ("rgb_only", "aux_only"), two_cameras=True),
    Part("gone", "colour gone from frame 10 on", "real", ("rgb_gone=10",), two_cameras=True),
    Part("clips", "clips kept out of training", "clips"),
    Part("smoke", "smoke before colour", "smoke"),
    Part("trials", "trials of the states", "trials"),
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
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS))
    options = parser.parse_args(arguments)
    wanted = options.parts.split(",")
    unknown = sorted(set(wanted) - {part.name for part in PARTS})
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; expected some of {', '.join(c.name for c in PARTS)}")
    parts = [part for part in PARTS if part.name in wanted]
    if options.teacher is None and any(part.footage == "clips" for part in parts):
        parser.error("the part clips needs --teacher FOLDER, with NanoTrack v2's two ONNX files in it")
    footage = options.footage or options.out / "footage"
    lines = []
    for part in parts:
        write_footage(part.footage, footage, options.root, options.teacher)
        tracks: dict[str, TrackFrames] = {}
        for condition in part.conditions:
            plan = open_plan(_run(part, condition, footage, options))
            tracks |= {f"{name} {condition}": track for name, track in tracks_of(run_benchmark(plan)).items()}
        boxes, states = box_rows("", tracks)[-1], state_rows("", tracks)[-1]
        shares = (states.false_tracking, states.shyness, states.found_in_30)
        cells = [f"{boxes.auc:.3f}", *("-" if math.isnan(share) else f"{share:.1%}" for share in shares)]
        lines.append([f"{part.text} ({len(tracks)})", *cells])
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    print(
        markdown_table(["footage (runs)", "success AUC", "false TRACKING", "shyness", "found within 30 frames"], lines)
    )
    return 0


def _run(part: Part, condition: str, footage: Path, options: argparse.Namespace) -> BenchmarkOptions:
    root = footage / part.footage
    names = [path.name for path in sorted(root.iterdir()) if not part.two_cameras or _has_two_cameras(path)]
    return BenchmarkOptions(
        root=root,
        dataset="folder",
        out=options.out / f"{part.name}_{condition}",
        model=options.model,
        weights=options.weights,
        sequences=",".join(names),
        engine=options.engine,
        condition=condition,
        device="cpu",
        threads=1,
    )


def _has_two_cameras(folder: Path) -> bool:
    return len([path for path in folder.iterdir() if path.is_dir()]) > 1


def write_footage(name: str, footage: Path, root: Path, teacher: Path | None) -> None:
    """Write one kind of footage below `footage`, unless it is there; a folder appears when it is whole."""
    out = footage / name
    if out.exists():
        return
    footage.mkdir(parents=True, exist_ok=True)
    folders = validation_folders(root)
    if name == "trials":
        write_trials(out, trials(folders))
    elif name == "smoke":
        write_trials(out, smoke_trials(folders))
    else:
        part = footage / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        if name == "real":
            for folder in folders:
                (part / folder.name).symlink_to(folder.resolve())
        elif teacher is not None:
            write_clips(part, root / "training", Teacher(teacher))
        part.rename(out)


def write_clips(out: Path, root: Path, teacher: Teacher) -> None:
    """Write the two longest tracks through each of `CLIPS` as sequences with one camera."""
    for clip in CLIPS:
        thermal, images = "infrared" in clip, read_video(root / clip)
        tracks = [t for t in label_clip(images, teacher, LabelSettings(), thermal) if len(t.boxes) >= SHORTEST]
        for number, track in enumerate(sorted(tracks, key=lambda track: -len(track.boxes))[:2]):
            shown = images[track.first : track.first + len(track.boxes)]
            boxes = np.array(track.boxes, dtype=np.float64)
            write_sequence(out / f"{Path(clip).stem}_{number}", _frames(shown, thermal), boxes)


def _frames(images: Sequence[Image], thermal: bool) -> Iterator[MultiModalFrame]:
    for index, image in enumerate(images):
        rgb = None if thermal else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        aux = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if thermal else None
        yield MultiModalFrame(index / FPS, rgb, aux, Modality.THERMAL)


if __name__ == "__main__":
    raise SystemExit(main())
