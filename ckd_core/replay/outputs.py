"""What a tracked recording looks like: boxes as text, an overlay video, and a timeline."""

from __future__ import annotations

import csv
import io
from contextlib import ExitStack
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.files import atomic_path
from ckd_core.modality import to_network_image
from ckd_core.tracking.result import TrackResult, TrackState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from ckd_core.frame import Image, MultiModalFrame

# RGB
STATE_COLOURS = {
    TrackState.TRACKING: (60, 200, 80),
    TrackState.UNCERTAIN: (255, 180, 40),
    TrackState.LOST: (235, 70, 60),
}
CSV_COLUMNS = ("frame", "stamp", "x", "y", "w", "h", "score", "state", "rgb", "aux", "ms")


class PictureError(TrackingError):
    """An overlay that cannot be written."""


def boxes_csv(results: Sequence[TrackResult]) -> str:
    """All answers, one line a frame; boxes in pixels, stamps in seconds, times in milliseconds."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for index, result in enumerate(results):
        box = (f"{value:.4f}" for value in result.box)
        presence = int(result.rgb_present), int(result.aux_present)
        milliseconds = f"{result.timing.total * 1e3:.3f}"
        answer = (f"{result.score:.6f}", result.state.value)
        writer.writerow((index, f"{result.stamp:.9f}", *box, *answer, *presence, milliseconds))
    return stream.getvalue()


def boxes_text(results: Sequence[TrackResult]) -> str:
    """Boxes alone as benchmarks take them: x,y,w,h, one line a frame, the first one as it was given."""
    return "".join(",".join(f"{value:.4f}" for value in result.box) + "\n" for result in results)


def draw(frame: MultiModalFrame, result: TrackResult) -> NDArray[np.uint8]:
    """Both images side by side, [H, 2 W, 3] uint8 RGB, with box, state and score; a missing one is black.

    A lost target has no box. Boxes are drawn where the reference image has them; an auxiliary image of another size is
    stretched to it.
    """
    aux = None if frame.aux is None else to_network_image(frame.aux, frame.modality)
    shape = frame.rgb.shape if frame.rgb is not None else aux.shape if aux is not None else (1, 1, 3)
    size = shape[1], shape[0]
    panels = []
    for name, image in (("colour", frame.rgb), (frame.modality.value, aux)):
        panel = np.zeros(shape, dtype=np.uint8) if image is None else cv2.resize(image, size)
        if result.state is not TrackState.LOST:
            x, y, w, h = result.box
            corners = (round(x), round(y)), (round(x + w), round(y + h))
            cv2.rectangle(panel, *corners, STATE_COLOURS[result.state], max(1, shape[0] // 200))
        if image is None:
            _write(panel, f"no {name} image", (200, 200, 200))
        panels.append(panel)
    both = np.hstack(panels)
    _write(both, f"{result.state.value} {result.score:.2f}", STATE_COLOURS[result.state])
    return np.asarray(both, dtype=np.uint8)


def _write(picture: Image, text: str, colour: tuple[int, int, int]) -> None:
    """Text on a dark ground in the upper left corner."""
    scale = max(0.4, picture.shape[0] / 700)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(picture, (0, 0), (width + 2 * below, height + 2 * below), (20, 20, 20), cv2.FILLED)
    cv2.putText(picture, text, (below, height + below), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


class OverlayVideo:
    """Writes drawn frames as MP4; the file appears when the block ends without an error."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._file = ExitStack()

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        self._file.__exit__(kind, error, trace)

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture [H, W, 3] uint8 RGB. Errors: PictureError when OpenCV cannot write videos."""
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            temporary = self._file.enter_context(atomic_path(self._path))
            self._writer = cv2.VideoWriter(str(temporary), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise PictureError(f"OpenCV cannot write {self._path}: it has no MPEG-4 encoder; use --no-video")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def write_timeline(path: Path, results: Sequence[TrackResult], title: str) -> None:
    """PNG over time: score, state as ground colour, and when each camera gave an image."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    stamps = np.array([result.stamp for result in results]) - results[0].stamp
    ends = np.append(stamps[1:], stamps[-1] + (stamps[-1] - stamps[-2] if len(stamps) > 1 else 1))
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(11, 4), sharex=True, height_ratios=(4, 1), layout="constrained"
    )
    for state, colour in STATE_COLOURS.items():
        chosen = [result.state is state for result in results]
        ground = tuple(value / 255 for value in colour)
        spans = [(begin, end - begin) for begin, end, this in zip(stamps, ends, chosen, strict=True) if this]
        upper.broken_barh(spans, (0, 1), facecolors=ground, alpha=0.25, label=f"{state.value} ({sum(chosen)} frames)")
    upper.plot(stamps, [result.score for result in results], color="black", linewidth=1, label="score")
    upper.set(xlim=(0, ends[-1]), ylim=(0, 1), ylabel="score", title=title)
    upper.legend(loc="lower left", ncols=4, fontsize=8)
    for row, (name, seen) in enumerate(
        (("auxiliary", [result.aux_present for result in results]), ("colour", [r.rgb_present for r in results]))
    ):
        spans = [(begin, end - begin) for begin, end, this in zip(stamps, ends, seen, strict=True) if this]
        lower.broken_barh(spans, (row + 0.15, 0.7), facecolors="tab:blue")
        lower.text(0, row + 0.5, f" {name}", va="center", fontsize=8, color="white" if seen[0] else "black")
    lower.set(ylim=(0, 2), yticks=(), xlabel="seconds", ylabel="images")
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
    finally:
        plt.close(figure)
