"""Where real pairs come from: groups of clips and images, each decoded once, in turn.

A group's share of the pairs is spread over its clips by the square root of their frames in tracks, so that no clip
dominates. What cannot be used is named and counted, never skipped silently.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.data.box_files import BoxFileError, read_table
from ckd_core.data.real.crops import NO_TROUBLE, RealPair
from ckd_core.data.real.paste import paste, random_box
from ckd_core.data.real.scenes import rendered_pairs, scene_pairs
from ckd_core.data.real.teacher import Track, read_tracks
from ckd_core.data.real.video import VideoError, read_video
from ckd_core.data.sequences import list_images, read_auxiliary, read_color
from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from ckd_core.modality import to_network_image
from ckd_core.settings import limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.real.crops import CutPair, TroubleSettings
    from ckd_core.frame import Image
    from ckd_core.models.config import NetworkConfig

MAX_GAP = 59  # frames from template to search
MIN_SIDE = 7.0  # pixels, of an annotated box
WITHOUT_FILES = ("scenes", "rendered")
MAX_OTHER_OVERLAP = 0.1  # with the target, of another target
CLOSE_SIDES = 2.5  # of the target: another one that a search region shows as well
CLOSE_DRAWS = 4  # moments that a pair looks at for another target close by
MAX_OTHERS = 60  # colour images for backgrounds and dead cameras


class MaterialError(TrackingError):
    """Training material that is missing, or of which too much cannot be used."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """One kind of material.

    Attributes:
        name: Name of the group.
        what: `tracks` = clips that `sdstrack label` labelled; `boxes` = clips with a `.txt` beside them, one x,y,w,h
            per frame, nan = absent; `pairs` = `NAME_visible` and `NAME_infrared` clips, tracks of either; `patches` =
            any box on any textured place of a colour clip or photograph, twice the same frame; `pasted` = such a patch
            on two other images; `stills` = photographs and a `boxes.csv`; `depth` = folders `visible` and `depth`,
            boxes as in `patches`; `scenes` = synthetic recordings; `rendered` = synthetic pairs, drawn straight into
            the crops. The last two need no files.
        files: Patterns below the root; one that begins with `!` excludes the files that match it.
        share: Share of all pairs.
        thermal: Whether the clips are those of a thermal camera without a colour one.
        damp: Factor on the number of pairs of clips whose name contains the key, for material that repeats itself.
        starts: `LabelSettings.starts` of clips whose name contains the key.
        clips: Number of recordings of a group `scenes`.
    """

    name: str
    what: Literal["tracks", "boxes", "pairs", "patches", "pasted", "stills", "depth", "scenes", "rendered"]
    files: tuple[str, ...] = ()
    share: float = field(kw_only=True, metadata=limits(0.0, 1.0))
    thermal: bool = False
    damp: dict[str, float] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    clips: int = field(default=96, metadata=limits(1))


def list_files(root: Path, group: GroupSettings) -> list[Path]:
    """Files of a group, in the order of its patterns, then by name.

    Raises:
        MaterialError: A pattern that matches no file, or a group that needs files and names none.
    """
    if bool(group.files) == (group.what in WITHOUT_FILES):
        expected = "no files" if group.files else "patterns of files"
        raise MaterialError(f"group {group.name}: files is {list(group.files)}; expected {expected} for {group.what}")
    files: dict[Path, None] = {}
    for pattern in group.files:
        matches = sorted(root.glob(pattern.removeprefix("!")))
        if not matches:
            raise MaterialError(f"group {group.name}: nothing fits {root / pattern.removeprefix('!')}; expected files")
        for path in matches:
            if pattern.startswith("!"):
                files.pop(path, None)
            else:
                files[path] = None
    return list(files)


def infrared_path(visible: Path) -> Path:
    """The thermal clip that belongs to a colour clip of a group `pairs`."""
    return visible.with_name(visible.name.replace("_visible", "_infrared"))


@dataclass(slots=True)
class Refusals:
    """What could not be used.

    Attributes:
        lines: One line per file, with the reason.
        boxes: Number of refused boxes per file.
    """

    lines: list[str] = field(default_factory=list)
    boxes: Counter[str] = field(default_factory=Counter)

    def file(self, path: Path, reason: object) -> None:
        """Name a file that cannot be used at all."""
        self.lines.append(f"{path}: {reason}")

    def box(self, path: Path) -> None:
        """Count a box that leaves its picture or is smaller than `MIN_SIDE`."""
        self.boxes[str(path)] += 1

    def summary(self) -> list[str]:
        """All refusals, as lines for the log."""
        boxes = [f"{path}: {count} boxes outside the picture or smaller than {MIN_SIDE:g} px"
                 for path, count in sorted(self.boxes.items())]  # fmt: skip
        return [*self.lines, *boxes]


class Material:
    """All groups of a recipe under one root; `pairs` yields their pairs, clip by clip.

    Args:
        root: Folder of all material.
        groups: Kinds of material.
        tracks: File that `sdstrack label` wrote; read only if a group needs it.
        troubles: Further trouble.

    Raises:
        MaterialError: A pattern that matches no file, or only groups of share 0.
        TeacherError: The tracks cannot be read.
    """

    def __init__(
        self, root: Path, groups: tuple[GroupSettings, ...], tracks: Path, troubles: TroubleSettings = NO_TROUBLE
    ) -> None:
        self.root, self.groups, self.troubles = root, groups, troubles
        self.refusals = Refusals()
        self.others: list[Image] = []  # shared with the PairCutter
        self._tracks: dict[str, list[Track]] = {}
        if any(group.what in ("tracks", "pairs") for group in groups):
            self._tracks = read_tracks(tracks)
        if sum(group.share for group in groups) <= 0:
            raise MaterialError("every group of the material has the share 0; expected one above 0")
        self.files = {group.name: list_files(root, group) for group in groups}

    def pairs(
        self, count: int, rng: np.random.Generator, network: NetworkConfig
    ) -> Iterator[tuple[str, RealPair | CutPair]]:
        """About `count` pairs with their sources; groups that need other images as backgrounds come last.

        Args:
            count: Number of pairs.
            rng: Draws them.
            network: What crops of `rendered` pairs are for.

        Raises:
            MaterialError: A group that needs tracks has none.
        """
        total = sum(group.share for group in self.groups)
        for group in sorted(self.groups, key=lambda g: g.what == "pasted"):
            if group.what == "scenes":
                for name, pair in scene_pairs(group.clips, round(count * group.share / total / group.clips), rng):
                    yield f"{group.name}/{name}", pair
                continue
            if group.what == "rendered":
                number = round(count * group.share / total)
                for cut in rendered_pairs(number, rng, network, self.troubles):
                    yield f"{group.name}/pair", cut
                continue
            shares = self._shares(group)
            for path, share in shares.items():
                number = int(count * group.share / total * share / sum(shares.values()) + rng.random())
                try:
                    for pair in self._group_pairs(group, path, number, rng):
                        yield f"{group.name}/{path.relative_to(self.root)}", pair
                except (VideoError, BoxFileError, MaterialError) as error:
                    self.refusals.file(path, error)

    def _shares(self, group: GroupSettings) -> dict[Path, float]:
        shares = {}
        for path in self.files[group.name]:
            weight = float(np.prod([factor for key, factor in group.damp.items() if key in path.name]))
            if group.what in ("tracks", "pairs"):
                frames = sum(len(track.boxes) for track in self._tracks_of(group, path))
                weight *= frames**0.5
            if weight > 0:
                shares[path] = weight
        if not shares:
            clips = len(self.files[group.name])
            raise MaterialError(f"group {group.name}: none of its {clips} clips has a track; run sdstrack label")
        return shares

    def _tracks_of(self, group: GroupSettings, path: Path) -> list[Track]:
        names = [path]
        if group.what == "pairs":
            names.append(infrared_path(path))
        return [track for name in names for track in self._tracks.get(str(name.relative_to(self.root)), [])]

    def _group_pairs(
        self, group: GroupSettings, path: Path, count: int, rng: np.random.Generator
    ) -> Iterator[RealPair]:
        if group.what == "stills":
            return self._stills(path, count, rng)
        if group.what == "depth":
            return self._depth(path, count, rng)
        if group.what in ("patches", "pasted"):
            return self._patches(group, path, count, rng)
        return self._clip(group, path, count, rng)

    def _clip(self, group: GroupSettings, path: Path, count: int, rng: np.random.Generator) -> Iterator[RealPair]:
        frames = read_video(path)
        tracks = self._annotated(path, frames) if group.what == "boxes" else self._tracks_of(group, path)
        infrared = read_video(infrared_path(path)) if group.what == "pairs" else None
        length = len(frames) if infrared is None else min(len(frames), len(infrared))
        tracks = [track for track in tracks if track.first + len(track.boxes) <= length and len(track.boxes) > 1]
        if not tracks:
            raise MaterialError("no track of at least two frames inside the clip")
        chances = np.array([len(track.boxes) for track in tracks], dtype=np.float64)
        color = None if group.thermal else [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in frames]
        if color is not None and len(self.others) < MAX_OTHERS:
            self.others.append(color[len(color) // 2])
        second = frames if group.thermal else infrared
        for _ in range(count):
            company = self.troubles.company > 0 and rng.random() < self.troubles.company
            draws = [self._draw(tracks, chances, rng) for _ in range(CLOSE_DRAWS if company else 1)]
            track, i, j = next((draw for draw in draws if _has_company(tracks, draw[0], draw[2])), draws[0])
            a, b = track.first + i, track.first + j
            boxes = np.array(track.boxes[i]), np.array(track.boxes[j])
            if not all(np.isfinite(box).all() for box in boxes):
                continue
            yield RealPair(
                None if color is None else (color[a], color[b]),
                None if second is None else (second[a], second[b]),
                boxes,
                _others(tracks, track, b),
            )

    @staticmethod
    def _draw(tracks: list[Track], chances: NDArray[np.float64], rng: np.random.Generator) -> tuple[Track, int, int]:
        """A track, and the places of template and search frame in it."""
        track = tracks[int(rng.choice(len(tracks), p=chances / chances.sum()))]
        first = int(rng.integers(0, len(track.boxes) - 1))
        later = rng.random() < 0.85
        second = min(len(track.boxes) - 1, first + 1 + int(rng.integers(0, MAX_GAP))) if later else first
        return track, first, second

    def _annotated(self, path: Path, frames: list[Image]) -> list[Track]:
        """Runs of frames with a usable box in the file beside a clip."""
        table = read_table(path.with_suffix(".txt")).values
        if abs(len(table) - len(frames)) > 2:
            raise MaterialError(f"{len(table)} lines of boxes for {len(frames)} frames; at most 2 may differ")
        height, width = frames[0].shape[:2]
        runs: list[Track] = []
        rows: list[tuple[float, float, float, float]] = []
        for index, row in enumerate([*table[: len(frames)], np.full(4, np.nan)]):
            x, y, w, h = (float(value) for value in row)
            usable = bool(np.isfinite(row).all()) and min(w, h) >= MIN_SIDE
            usable = usable and x >= 0 and y >= 0 and x + w <= width and y + h <= height
            if usable:
                rows.append((x, y, w, h))
                continue
            if np.isfinite(row).all():
                self.refusals.box(path)
            if len(rows) > 1:
                runs.append(Track(index - len(rows), "file", tuple(rows)))
            rows = []
        return runs

    def _patches(self, group: GroupSettings, path: Path, count: int, rng: np.random.Generator) -> Iterator[RealPair]:
        if path.suffix == ".mp4":
            frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in read_video(path)]
        else:
            frames = [_small(read_color(path))]
        if len(self.others) < MAX_OTHERS:
            self.others.append(frames[len(frames) // 2])
        for _ in range(count):
            image = frames[int(rng.integers(len(frames)))]
            box = random_box(image, rng)
            if box is None:
                continue
            if group.what == "patches":
                yield RealPair((image, image), None, (box, box))
                continue
            first = self.others[int(rng.integers(len(self.others)))]
            second = first if rng.random() < 0.5 else self.others[int(rng.integers(len(self.others)))]
            both = paste(image, box, (first, second), rng)
            if both is not None:
                yield RealPair((both[0][0], both[1][0]), None, (both[0][1], both[1][1]))

    def _stills(self, path: Path, count: int, rng: np.random.Generator) -> Iterator[RealPair]:
        """Pairs of the photographs in `images` beside `path`, the table of boxes with columns file, x, y, w, h."""
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        boxes = {row["file"]: [np.array([float(r[k]) for k in "xywh"]) for r in rows if r["file"] == row["file"]]
                 for row in rows}  # fmt: skip
        usable = {name: [box for box in each if min(box[2:]) >= MIN_SIDE] for name, each in boxes.items()}
        for name, each in boxes.items():
            for _ in range(len(each) - len(usable[name])):
                self.refusals.box(path.parent / "images" / name)
        names = [name for name, each in usable.items() if each]
        for name in names:
            image = cv2.imread(str(path.parent / "images" / name))
            if image is None:
                self.refusals.file(path.parent / "images" / name, "no picture that OpenCV can decode")
                continue
            for _ in range(int(count / len(names) + rng.random())):
                box = usable[name][int(rng.integers(len(usable[name])))]
                yield RealPair(None, (image, image), (box, box))

    def _depth(self, path: Path, count: int, rng: np.random.Generator) -> Iterator[RealPair]:
        """Pairs of a folder with `visible` and `depth`, images of equal number."""
        color, depth = list_images(path / "visible"), list_images(path / "depth")
        if len(color) != len(depth):
            raise MaterialError(f"{len(color)} colour and {len(depth)} depth pictures; must be equal")
        for _ in range(count):
            index = int(rng.integers(len(color)))
            image = read_color(color[index])
            second: Image = to_network_image(read_auxiliary(depth[index], Modality.DEPTH), Modality.DEPTH)
            second = cv2.resize(second, image.shape[1::-1])
            box = random_box(image, rng)
            if box is not None:
                yield RealPair((image, image), (second, second), (box, box))


def _has_company(tracks: list[Track], target: Track, index: int) -> bool:
    """Whether another target stands close to the target in frame `index` of its track."""
    x, y, w, h = target.boxes[index]
    middle, sides = np.array((x + w / 2, y + h / 2)), np.array((w, h))
    return any(
        bool((np.abs(box[:2] + box[2:] / 2 - middle) < CLOSE_SIDES * sides).all())
        for box in _others(tracks, target, target.first + index)
    )


def _others(tracks: list[Track], target: Track, frame: int) -> tuple[NDArray[np.float64], ...]:
    """Boxes of the other tracks in a frame that do not overlap the target's: two tracks may follow one object."""
    own = np.array(target.boxes[frame - target.first])
    boxes = [
        np.array(track.boxes[frame - track.first])
        for track in tracks
        if track is not target and track.first <= frame < track.first + len(track.boxes)
    ]
    return tuple(box for box in boxes if np.isfinite(box).all() and iou_xywh(own, box) < MAX_OTHER_OVERLAP)


def _small(image: Image) -> Image:
    scale = 900 / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
