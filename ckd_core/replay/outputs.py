"""What `sdstrack run` writes: boxes as text, an overlay video, and a timeline."""

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
STATE_COLORS = {
    TrackState.TRACKING: (60, 200, 80),
    TrackState.UNCERTAIN: (255, 180, 40),
    TrackState.LOST: (235, 70, 60),
}
CSV_COLUMNS = ("frame", "stamp", "x", "y", "w", "h", "score", "state", "rgb", "aux", "ms")


class OverlayError(TrackingError):
    """An overlay that cannot be written."""


def boxes_csv(results: Sequence[TrackResult]) -> str:
    """Format all results, one line per frame: boxes in pixels, stamps in seconds, times in milliseconds."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for index, result in enumerate(results):
        box = (f"{value:.4f}" for value in result.box)
        presence = int(result.rgb_present), int(result.aux_present)
        milliseconds = f"{result.timing.total * 1e3:.3f}"
        confidence = (f"{result.score:.6f}", result.state.value)
        writer.writerow((index, f"{result.stamp:.9f}", *box, *confidence, *presence, milliseconds))
    return stream.getvalue()


def boxes_text(results: Sequence[TrackResult]) -> str:
    """Format the boxes alone, as benchmarks expect them: x,y,w,h, one line per frame."""
    return "".join(",".join(f"{value:.4f}" for value in result.box) + "\n" for result in results)


def draw(frame: MultiModalFrame, result: TrackResult) -> NDArray[np.uint8]:
    """Draw both images side by side, [H, 2 W, 3] uint8 RGB, with box, state and score; a missing image is black.

    A lost target has no box. An auxiliary image of another size is stretched to the colour image, and both get the box
    at the same place.
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
            cv2.rectangle(panel, *corners, STATE_COLORS[result.state], max(1, shape[0] // 200))
        if image is None:
            _put_text(panel, f"no {name} image", (200, 200, 200))
        panels.append(panel)
    both = np.hstack(panels)
    _put_text(both, f"{result.state.value} {result.score:.2f}", STATE_COLORS[result.state])
    return np.asarray(both, dtype=np.uint8)


def _put_text(picture: Image, text: str, color: tuple[int, int, int]) -> None:
    """Put text on a dark ground into the upper left corner."""
    scale = max(0.4, picture.shape[0] / 700)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(picture, (0, 0), (width + 2 * below, height + 2 * below), (20, 20, 20), cv2.FILLED)
    cv2.putText(picture, text, (below, height + below), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)


class OverlayVideo:
    """Context manager that writes pictures as MP4; the file appears when the block ends without an error."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._temporary = path
        self._file = ExitStack()

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            if error is None and not is_whole_video(self._temporary):
                error = OverlayError(f"{self._path} could not be written whole; is the disk full?")
                self._file.__exit__(type(error), error, None)
                raise error
        self._file.__exit__(kind, error, trace)

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture [H, W, 3] uint8 RGB.

        Raises:
            OverlayError: OpenCV cannot encode videos.
        """
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._temporary = self._file.enter_context(atomic_path(self._path))
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise OverlayError(f"OpenCV cannot write {self._path}: it has no MPEG-4 encoder; use --no-video")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def is_whole_video(path: Path) -> bool:
    """Whether a video that was just written can be read; OpenCV's writer says nothing of a full disk."""
    video = cv2.VideoCapture(str(path))
    try:
        return bool(video.read()[0])
    finally:
        video.release()


def write_timeline(path: Path, results: Sequence[TrackResult], title: str) -> None:
    """Write a PNG over time: the score, the state as ground colour, and when each camera had an image."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    stamps = np.array([result.stamp for result in results]) - results[0].stamp
    ends = np.append(stamps[1:], stamps[-1] + (stamps[-1] - stamps[-2] if len(stamps) > 1 else 1))
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(11, 4), sharex=True, height_ratios=(4, 1), layout="constrained"
    )
    for state, color in STATE_COLORS.items():
        in_state = [result.state is state for result in results]
        ground = tuple(value / 255 for value in color)
        spans = [(begin, end - begin) for begin, end, this in zip(stamps, ends, in_state, strict=True) if this]
        upper.broken_barh(spans, (0, 1), facecolors=ground, alpha=0.25, label=f"{state.value} ({sum(in_state)} frames)")
    upper.plot(stamps, [result.score for result in results], color="black", linewidth=1, label="score")
    upper.set(xlim=(0, ends[-1]), ylim=(0, 1), ylabel="score", title=title)
    upper.legend(loc="lower left", ncols=4, fontsize=8)
    for row, (name, present) in enumerate(
        (("auxiliary", [result.aux_present for result in results]), ("colour", [r.rgb_present for r in results]))
    ):
        spans = [(begin, end - begin) for begin, end, this in zip(stamps, ends, present, strict=True) if this]
        lower.broken_barh(spans, (row + 0.15, 0.7), facecolors="tab:blue")
        lower.text(0, row + 0.5, f" {name}", va="center", fontsize=8, color="white" if present[0] else "black")
    lower.set(ylim=(0, 2), yticks=(), xlabel="seconds", ylabel="images")
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
    finally:
        plt.close(figure)
