"""The frames that requests refer to: found in the history, decoded, and what a box or a pixel means in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.frame import FrameError
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.tracking.target_requests import PixelRequest, TargetError, box_at_pixel, checked_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.source_frame import History, SourceFrame

# Detectors copy the header's stamp, so it fits to the nanosecond; half a frame period allows for rounding.
STAMP_TOLERANCE_NS = 15_000_000


class UnusableFrameError(TrackingError):
    """A frame whose messages hold no image."""


class NotYetError(TargetError):
    """The frame that a request refers to has not come yet."""


class Pictures:
    """Decodes frames for the tracking thread, and remembers how large the image is that boxes refer to.

    Args:
        history: The last frames.
        settings: The node's parameters as they are now.
        clock: Seconds of a steady clock, the one of `SourceFrame.released`.
    """

    def __init__(self, history: History, settings: Callable[[], Settings], clock: Callable[[], float]) -> None:
        self._history = history
        self._settings = settings
        self._clock = clock
        self._size: tuple[int, int] | None = None

    def of(self, source: SourceFrame) -> MultiModalFrame:
        """Decode a frame; older ones give way where memory is short.

        Raises:
            UnusableFrameError: None of its images can be used.
        """
        self._history.make_room(source.bytes_to_decode, source)
        try:
            images = source.images()
        except FrameError as error:
            raise UnusableFrameError(str(error)) from error
        if images.rgb is not None:
            self._size = (images.rgb.shape[1], images.rgb.shape[0])  # requests need it before a target has a result
        return images

    def size(self, images: MultiModalFrame) -> tuple[int, int]:
        """Width and height of the image that boxes refer to; while colour is dead, those of its last image.

        Raises:
            TargetError: There is no image.
        """
        if self._size is not None:
            return self._size
        if images.aux is None:
            raise TargetError("the frame has no image")
        return images.aux.shape[1], images.aux.shape[0]

    def since(self, stamp_ns: int | None) -> tuple[SourceFrame, ...]:
        """The frame that a request refers to, and all after it; without a stamp, the newest one alone.

        Raises:
            NotYetError: It has not come yet.
            TargetError: It is too old to be kept, or images have stopped.
        """
        newest = self._history.newest()
        span = self._history.span_ns()
        if newest is None or span is None:
            raise NotYetError
        if stamp_ns is None:
            self._check_age(newest)
            return (newest,)
        frames = self._history.since(stamp_ns, STAMP_TOLERANCE_NS)
        if frames:
            self._check_age(newest)
            return frames
        if stamp_ns > span[1]:
            raise NotYetError
        reach_s = (span[1] - span[0]) / NS_PER_S
        raise TargetError(
            f"no frame of stamp {stamp_ns / NS_PER_S:.3f} is kept; the history reaches {reach_s:.2f} s back from"
            f" {span[1] / NS_PER_S:.3f}"
        )

    def box_at_pixel(self, request: PixelRequest, source: SourceFrame) -> BoundingBox:
        """The box that a click stands for.

        Raises:
            TargetError: The click is outside the image, or has no depth where it needs one.
        """
        images = self.of(source)
        width, height = self._settings().init_size
        return box_at_pixel(images, self.size(images), request, (width, height))

    def check_box(self, box: BoundingBox, source: SourceFrame) -> tuple[int, int]:
        """Check that a box has a place in a frame.

        Returns:
            Width and height of the image that it refers to.

        Raises:
            TargetError: It has none.
        """
        images = self.of(source)
        width, height = size = self.size(images)
        checked_box(box, size)
        if images.rgb is None and images.aux is not None and images.aux.shape[1::-1] != size:
            raise TargetError(
                f"colour is missing, and a box in its {width} x {height} pixels has no place in the "
                f"{images.aux.shape[1]} x {images.aux.shape[0]} {images.modality.value} image; wait for colour"
            )
        return size

    def _check_age(self, newest: SourceFrame) -> None:
        """Refuse a target in the picture that a dead camera has left behind: by now it shows what is not there."""
        age_s, limit_s = self._clock() - newest.released, self._settings().stale_after_s
        if age_s > limit_s:
            raise TargetError(
                f"the newest frame is {age_s:.1f} s old; expected at most {limit_s:g} s (stale_after_s): images have"
                " stopped"
            )
