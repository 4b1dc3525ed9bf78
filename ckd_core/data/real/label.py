"""Tracks of all clips of a recipe that need them, and a contact sheet to judge them by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.real.material import infrared_path, list_files
from ckd_core.data.real.teacher import Teacher, TeacherError, Track, label_clip, read_part, write_tracks
from ckd_core.data.real.video import VideoError, read_video
from ckd_core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckd_core.data.real.features import FeatureSource
    from ckd_core.frame import Image

TILE, TILES_PER_ROW = (240, 180), 8  # of a contact sheet; width and height of a tile in pixels
TILE_COLORS = ((0, 255, 0), (0, 0, 255), (255, 128, 0), (0, 255, 255))


def label_material(
    source: FeatureSource, teacher: Path, echo: Callable[[str], object], sheet: Path | None = None
) -> dict[str, list[Track]]:
    """Label every clip of the groups `tracks` and `pairs`, and write `source.tracks`.

    What is done is kept beside it after each clip (suffix `.part`), and an interrupted call goes on from there.

    Args:
        source: Material and settings.
        teacher: Folder of the teacher's files.
        echo: Takes a line per clip.
        sheet: Where a contact sheet is written (PNG); None: nowhere.

    Returns:
        Tracks by the clip's path below `source.root`.

    Raises:
        TeacherError: No teacher, or a clip that does not decode (all others are labelled first).
    """
    engine = Teacher(teacher)
    part = source.tracks.with_name(f"{source.tracks.name}.part")
    clips: dict[str, list[Track]] = {}
    before = read_part(part, source.label)
    broken: list[str] = []
    tiles: list[Image] = []
    for group in source.groups:
        if group.what not in ("tracks", "pairs"):
            continue
        for path in list_files(source.root, group):
            for clip in [path, infrared_path(path)] if group.what == "pairs" else [path]:
                thermal = group.thermal or clip is not path
                try:
                    frames = read_video(clip)
                except VideoError as error:
                    broken.append(str(error))
                    continue
                starts = [number for key, number in group.starts.items() if key in clip.name]
                settings = replace(source.label, starts=starts[0]) if starts else source.label
                name = str(clip.relative_to(source.root))
                tracks = before[name] if name in before else label_clip(frames, engine, settings, thermal)
                clips[name] = tracks
                echo(f"{clip.name}: {len(tracks)} tracks, {sum(len(track.boxes) for track in tracks)} frames")
                write_tracks(part, source.label, {**before, **clips})
                if sheet is not None and tracks:
                    tiles += [_tile(frames, tracks, share, clip.stem) for share in (0.1, 0.8)]
    write_tracks(part, source.label, clips)
    part.replace(source.tracks)  # one step: a part that stayed behind would serve the next call
    if sheet is not None and tiles:
        _write_sheet(sheet, tiles)
    if broken:
        raise TeacherError(f"{len(broken)} clips could not be labelled: " + "; ".join(broken))
    return clips


def _tile(frames: list[Image], tracks: list[Track], share: float, name: str) -> Image:
    """One frame, `share` of the way through the first track, with every track that exists there."""
    index = min(len(frames) - 1, tracks[0].first + int(share * (len(tracks[0].boxes) - 1)))
    picture = frames[index].copy()
    for number, track in enumerate(tracks):
        if 0 <= index - track.first < len(track.boxes):
            x, y, w, h = (round(value) for value in track.boxes[index - track.first])
            cv2.rectangle(picture, (x, y), (x + w, y + h), TILE_COLORS[number % len(TILE_COLORS)], 2)
    tile = np.zeros((TILE[1], TILE[0], 3), dtype=np.uint8)
    small = cv2.resize(picture, (TILE[0], round(picture.shape[0] * TILE[0] / picture.shape[1])))[: TILE[1]]
    tile[: len(small)] = small
    return cv2.putText(tile, f"{name[:20]} {len(tracks)}", (2, TILE[1] - 4), 0, 0.4, (0, 255, 255), 1)


def _write_sheet(path: Path, tiles: list[Image]) -> None:
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % TILES_PER_ROW)
    rows = [np.hstack(tiles[i : i + TILES_PER_ROW]) for i in range(0, len(tiles), TILES_PER_ROW)]
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), np.vstack(rows)):
            raise TeacherError(f"cannot write the contact sheet {path}")
