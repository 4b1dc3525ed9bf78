"""A frame as the tracker sees it: checked against the stream so far, and cropped modality by modality."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.frame import FrameError, Image, MultiModalFrame, check_frame
from ckd_core.modality import ModalityConverter
from ckd_core.tracking.config import MissingPolicy, TrackerConfig
from ckd_core.tracking.crop import CropSampler, CropWindow
from ckd_core.tracking.sampling import FrameImages, window_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from ckd_core.frame import Modality

RGB, AUX = 0, 1


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """What is known from earlier frames of the stream.

    Attributes:
        size: (height, width) of the reference image.
        stamp: Stamp of the newest frame in seconds.
        rgb_size: (height, width) of the colour images, None before the first one.
        aux_size: The same of the auxiliary images.
        last_rgb: Newest colour image, kept for the policy `last` only.
        last_aux: Newest auxiliary image, kept for the policy `last` only.
    """

    size: tuple[int, int]
    stamp: float
    rgb_size: tuple[int, int] | None = None
    aux_size: tuple[int, int] | None = None
    last_rgb: Image | None = None
    last_aux: Image | None = None


class FrameView:
    """Checks frames and crops windows out of them; its buffers live as long as it does.

    Args:
        modality: Kind of the auxiliary stream.
        config: Options of the tracker.
        threads: How many CPU threads may crop at once.
    """

    def __init__(self, modality: Modality, config: TrackerConfig, threads: int = 1) -> None:
        self.modality = modality
        self._policy = config.missing
        self._converter = ModalityConverter(modality, config.modality)
        self._samplers = [CropSampler() for _ in range(max(1, threads))]
        self._helpers = ThreadPoolExecutor(threads - 1, "crop") if threads > 1 else None  # it starts none before work
        self._convert: Callable[[Image], Image] | None = self._converter.convert
        self._rgb: Image | None = None
        self._aux: Image | None = None
        self._rgb_map: NDArray[np.float64] | None = None
        self._aux_map: NDArray[np.float64] | None = None

    def check(self, frame: MultiModalFrame, memory: StreamMemory | None) -> StreamMemory:
        """Check a frame against the stream so far.

        Args:
            frame: The new frame.
            memory: What is known of the stream; None for a first frame.

        Returns:
            The memory with the frame's stamp and sizes.

        Raises:
            FrameError: No tracker can use the frame, or it cannot follow `memory`.
        """
        if not isinstance(frame, MultiModalFrame):
            raise FrameError(f"the frame is a {type(frame).__name__}; expected a MultiModalFrame")
        check_frame(frame)
        if frame.modality is not self.modality:
            raise FrameError(f"the frame's modality is {frame.modality.value}; expected {self.modality.value}")
        rgb_size = None if frame.rgb is None else _size(frame.rgb)
        aux_size = None if frame.aux is None else _size(frame.aux)
        if memory is None:
            if frame.rgb is None and frame.aux_from_reference is not None:
                raise FrameError(
                    f"no target can start without the colour image: boxes are in its pixels, and the "
                    f"{self.modality.value} image is only mapped to it; wait for a frame with colour"
                )
            return StreamMemory(_reference_size(frame), frame.stamp, rgb_size, aux_size)
        if frame.stamp < memory.stamp:
            raise FrameError(
                f"the frame's stamp is {frame.stamp} s, before the last one at {memory.stamp} s; "
                "start again after a jump of the clock"
            )
        _check_same_size("colour", memory.rgb_size, rgb_size)
        _check_same_size(self.modality.value, memory.aux_size, aux_size)
        return replace(
            memory,
            stamp=frame.stamp,
            rgb_size=rgb_size or memory.rgb_size,
            aux_size=aux_size or memory.aux_size,
        )

    def remember(self, frame: MultiModalFrame, memory: StreamMemory) -> StreamMemory:
        """Return the memory after a frame was used."""
        if self._policy is not MissingPolicy.LAST:
            return memory
        return replace(
            memory,
            last_rgb=memory.last_rgb if frame.rgb is None else frame.rgb,
            last_aux=memory.last_aux if frame.aux is None else frame.aux,
        )

    def begin(self, frame: MultiModalFrame, memory: StreamMemory) -> None:
        """Prepare a checked frame for `cut`."""
        self._rgb = memory.last_rgb if frame.rgb is None else frame.rgb
        aux = memory.last_aux if frame.aux is None else frame.aux
        self._aux = None if aux is None else self._converter.prepare(aux)
        self._convert = self._converter.convert
        self._rgb_map = image_from_reference(self._rgb, frame.rgb_from_reference, memory.size)
        self._aux_map = image_from_reference(self._aux, frame.aux_from_reference, memory.size)

    def cut(self, window: CropWindow, out: NDArray[np.uint8]) -> None:
        """Write the window of both images of the frame into `out` [2, S, S, 3] uint8: colour, auxiliary."""
        self._cut(self._samplers[0], window, out)

    def cut_all(self, windows: Sequence[CropWindow], out: Sequence[NDArray[np.uint8]]) -> None:
        """Write each window as `cut` does into its place in `out`, N times [2, S, S, 3]; what they share is done once.

        Equal windows are cut once, and an auxiliary image of which the windows together cover more than there is, is
        converted whole before.
        """
        first: dict[tuple[CropWindow, int], int] = {}
        for row, window in enumerate(windows):
            first.setdefault((window, out[row].shape[1]), row)
        different = [window for window, _ in first]
        unconverted = None if self._convert is None else self._aux  # a second call of the frame finds it converted
        if unconverted is not None and len(different) > 1 and self._covered(different) > math.prod(_size(unconverted)):
            self._aux, self._convert = self._converter.convert(unconverted), None
        jobs = iter([(windows[row], row) for row in first.values()])
        running = []
        if self._helpers is not None:
            helpers = self._samplers[1 : len(first)]
            running = [self._helpers.submit(self._cut_next, sampler, jobs, out) for sampler in helpers]
        try:
            self._cut_next(self._samplers[0], jobs, out)
        finally:
            for helper in running:
                helper.result()
        for row, window in enumerate(windows):
            source = first[window, out[row].shape[1]]
            if source != row:
                np.copyto(out[row], out[source])

    def images(self, windows: Sequence[CropWindow], side: int) -> FrameImages:
        """What a device needs to cut the windows of a frame with both images itself, as crops of `side` pixels."""
        assert self._rgb is not None  # noqa: S101 - the caller asks only for such frames
        assert self._aux is not None  # noqa: S101
        rows = [
            [
                window_geometry(window, side, _size(image), matrix)
                for image, matrix in ((self._rgb, self._rgb_map), (self._aux, self._aux_map))
            ]
            for window in windows
        ]
        tone, colored = self._converter.tone
        return FrameImages(self._rgb, self._aux, np.array(rows, dtype=np.float32), tone, colored)

    def _covered(self, windows: Iterable[CropWindow]) -> float:
        """Pixels of the auxiliary image in the windows, those that are in several of them as often."""
        assert self._aux is not None  # noqa: S101 - asked for only where there is one
        matrix, (height, width) = self._aux_map, _size(self._aux)
        scale = 1.0 if matrix is None else abs(float(np.linalg.det(matrix[:2, :2])))
        return sum(min(window.width * window.height * scale, height * width) for window in windows)

    def _cut_next(
        self, sampler: CropSampler, jobs: Iterator[tuple[CropWindow, int]], out: Sequence[NDArray[np.uint8]]
    ) -> None:
        """Cut windows until none is left; several threads take theirs from the same iterator."""
        for window, row in jobs:
            self._cut(sampler, window, out[row])

    def _cut(self, sampler: CropSampler, window: CropWindow, out: NDArray[np.uint8]) -> None:
        if self._rgb is not None:
            sampler.sample(self._rgb, window, out[RGB], self._rgb_map)
        if self._aux is not None:
            sampler.sample(self._aux, window, out[AUX], self._aux_map, self._convert)
        if self._rgb is None or self._aux is None:
            missing, present = (RGB, AUX) if self._rgb is None else (AUX, RGB)
            if self._policy in (MissingPolicy.DUPLICATE, MissingPolicy.ALONE):
                np.copyto(out[missing], out[present])
            else:  # zeros; or the last image where there has not been one yet
                out[missing].fill(0)


def same_stream(memory: StreamMemory, other: StreamMemory) -> StreamMemory:
    """Return what two trackers know of one stream, the newer images of both.

    Raises:
        FrameError: Their images differ in size.
    """
    _check_same_size("reference", memory.size, other.size)
    _check_same_size("colour", memory.rgb_size, other.rgb_size)
    _check_same_size("auxiliary", memory.aux_size, other.aux_size)
    newer, older = (other, memory) if other.stamp > memory.stamp else (memory, other)
    return StreamMemory(
        size=newer.size,
        stamp=newer.stamp,
        rgb_size=newer.rgb_size or older.rgb_size,
        aux_size=newer.aux_size or older.aux_size,
        last_rgb=older.last_rgb if newer.last_rgb is None else newer.last_rgb,
        last_aux=older.last_aux if newer.last_aux is None else newer.last_aux,
    )


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _reference_size(frame: MultiModalFrame) -> tuple[int, int]:
    """Size of the reference image: the first image of the frame that needs no homography."""
    streams = ((frame.rgb, frame.rgb_from_reference), (frame.aux, frame.aux_from_reference))
    for image, homography in streams:
        if image is not None and homography is None:
            return _size(image)
    image = frame.rgb if frame.rgb is not None else frame.aux
    assert image is not None  # noqa: S101 - check_frame refuses a frame without images
    return _size(image)


def _check_same_size(name: str, before: tuple[int, int] | None, now: tuple[int, int] | None) -> None:
    if before is None or now is None or before == now:
        return
    raise FrameError(
        f"the {name} image changed its size from {before[1]} x {before[0]} to {now[1]} x {now[0]} px; "
        "start again on the new size"
    )


def image_from_reference(
    image: Image | None, homography: NDArray[np.float64] | None, reference: tuple[int, int]
) -> NDArray[np.float64] | None:
    """3x3 matrix from a reference pixel to an image pixel (integers are pixel centres); None: the same pixels."""
    if image is None:
        return None
    if homography is not None:
        return np.asarray(homography, dtype=np.float64)
    height, width = _size(image)
    if (height, width) == reference:
        return None
    sy, sx = height / reference[0], width / reference[1]
    return np.array(((sx, 0, (sx - 1) / 2), (0, sy, (sy - 1) / 2), (0, 0, 1)), dtype=np.float64)
