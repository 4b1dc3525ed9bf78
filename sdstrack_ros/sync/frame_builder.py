"""Builds the tracker's frame from synchronized messages, in the node and for recordings alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality, MultiModalFrame
from ckd_core.modality import draw_events
from sdstrack_ros.messages.event_window import EventSlice
from sdstrack_ros.messages.image_codec import bytes_to_decode, decode
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.event_buffer import EventBuffer
from sdstrack_ros.sync.frame_buffer import FrameBuffer
from sdstrack_ros.sync.synchronizer import Synchronizer
from sdstrack_ros.sync.types import SyncConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.sync.pair_watch import PairWatch
    from sdstrack_ros.sync.types import SyncedSet

MILLIMETRE_M = 0.001
MB = 1_000_000
# Shares of memory_mb: what the synchronizer may hold, and what one image may take while it is decompressed.
SYNC_SHARE = 4
IMAGE_SHARE = 2


@dataclass(frozen=True, slots=True)
class Rejection:
    """An image that could not be used.

    Attributes:
        stream: 'rgb' or 'aux'.
        topic: its topic.
        reason: what is wrong with it.

    """

    stream: str
    topic: str
    reason: str


def make_synchronizer(config: SyncConfig, packets: bool) -> Synchronizer:
    """Build the tolerant synchronizer for auxiliary images, or for event packets."""
    return Synchronizer(config, EventBuffer if packets else FrameBuffer)


def sync_config(settings: Settings) -> SyncConfig:
    """Return how the settings pair the streams."""
    return SyncConfig(
        settings.max_skew_s,
        settings.max_wait_s,
        settings.aux_hold_s,
        max_bytes=memory_bytes(settings) // SYNC_SHARE,
    )


def memory_bytes(settings: Settings) -> int:
    """Return the memory in bytes that everything that waits may take."""
    return int(settings.memory_mb) * MB


def aux_homography(settings: Settings) -> NDArray[np.float64] | None:
    """Return the 3x3 homography from colour pixels to auxiliary pixels; None where both show the same view."""
    matrix = np.array(settings.aux_homography, dtype=np.float64).reshape(3, 3)
    return None if np.array_equal(matrix, np.eye(3)) else matrix


def color_image(payload: Any, topic: str, max_bytes: int | None = None) -> NDArray[np.uint8]:
    """Return the [H, W, 3] uint8 RGB pixels of an image message; `max_bytes` as of `decode`.

    Raises:
        CodecError: the message is not a colour image; names `topic`.

    """
    return decode(payload, topic, max_bytes).color()


def thermal_range(settings: Settings) -> tuple[float, float] | None:
    """Return the thermal values for black and white; None where each frame's percentiles set them."""
    low, high = settings.thermal_range
    return (low, high) if low < high else None


def auxiliary_image(
    payload: Any,
    modality: Modality,
    topic: str,
    limits: tuple[float, float] | None = None,
    max_bytes: int | None = None,
) -> NDArray[Any]:
    """Return the raw auxiliary image of an image message or of events, as `MultiModalFrame.aux` defines it.

    Args:
        payload: the message, or the events.
        modality: of the image.
        topic: for errors.
        limits: see `thermal_range`.
        max_bytes: see `decode`.

    Raises:
        CodecError: the message is not an image of this modality; names `topic`.

    """
    if isinstance(payload, EventSlice):
        return draw_events(payload.x, payload.y, payload.p, (payload.height, payload.width))
    return decode(payload, topic, max_bytes).auxiliary(modality, limits)


@dataclass(frozen=True, slots=True, eq=False)
class FrameBuilder:
    """Decodes synchronized messages.

    Attributes:
        modality: of the auxiliary image.
        rgb_topic: for error messages.
        aux_topic: for error messages.
        rgb_from_reference: see `MultiModalFrame`.
        aux_from_reference: see `MultiModalFrame`.
        depth_unit_m: metres per count of integer depth; depth in other units than millimetres becomes float32 metres,
            so that no later stage has to know the unit.
        thermal_range: values for black and white; see `thermal_levels`.
        watch: compares the images of a pair; None for nobody.
        max_image_bytes: what an image may take while it is decompressed; larger ones are refused unread. None for the
            codec's own limit.

    """

    modality: Modality
    rgb_topic: str = "rgb"
    aux_topic: str = "aux"
    rgb_from_reference: NDArray[np.float64] | None = None
    aux_from_reference: NDArray[np.float64] | None = None
    depth_unit_m: float = MILLIMETRE_M
    thermal_range: tuple[float, float] | None = None
    watch: PairWatch | None = None
    max_image_bytes: int | None = None

    def bytes_to_decode(self, synced: SyncedSet) -> int:
        """Return the memory that `build` takes at most beside the messages; images that it refuses unread take none."""
        needed = 0
        for sample in (synced.color, synced.aux):
            if sample is not None and not isinstance(sample.payload, EventSlice):
                size = bytes_to_decode(sample.payload)
                needed += size if self.max_image_bytes is None or size <= self.max_image_bytes else 0
        return needed

    def build(self, synced: SyncedSet) -> tuple[MultiModalFrame | None, tuple[Rejection, ...]]:
        """Decode a set; never raises TrackingError.

        Returns:
            The frame, None when none of its images can be used, and the images that were rejected.

        """
        rejections: list[Rejection] = []
        rgb: NDArray[Any] | None = None
        aux: NDArray[Any] | None = None
        try:
            rgb = None if synced.color is None else self._color(synced.color.payload)
        except TrackingError as error:
            rejections.append(Rejection("rgb", self.rgb_topic, str(error)))
        try:
            aux = None if synced.aux is None else self._aux(synced.aux.payload)
        except TrackingError as error:
            rejections.append(Rejection("aux", self.aux_topic, str(error)))
        if rgb is None and aux is None:
            return None, tuple(rejections)
        if self.watch is not None and rgb is not None and aux is not None:
            self.watch.built(synced, rgb.shape, aux.shape)
        frame = MultiModalFrame(
            synced.stamp_ns / NS_PER_S,
            rgb,
            aux,
            self.modality,
            self.rgb_from_reference,
            self.aux_from_reference,
            synced.aux_held and aux is not None,
        )
        return frame, tuple(rejections)

    def _color(self, payload: Any) -> NDArray[np.uint8]:
        return color_image(payload, self.rgb_topic, self.max_image_bytes)

    def _aux(self, payload: Any) -> NDArray[Any]:
        image = auxiliary_image(payload, self.modality, self.aux_topic, self.thermal_range, self.max_image_bytes)
        counts = self.modality is Modality.DEPTH and np.issubdtype(image.dtype, np.integer)
        if counts and self.depth_unit_m != MILLIMETRE_M:
            return image.astype(np.float32) * np.float32(self.depth_unit_m)
        return image
