"""Raw events to the bytes of event packets in EVT 3.0, the format of Prophesee's sensors. No ROS import.

The format has 16-bit little-endian words whose upper four bits give their type (EVT 3.0 Format, docs.prophesee.ai).
Only single events are written; vectors of events would merely compress them further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.modality import Events

ENCODING = "evt3"
MAX_SENSOR_SIDE_PX = 2048  # 11 bits
_ADDR_Y, _ADDR_X, _TIME_LOW, _TIME_HIGH = 0x0000, 0x2000, 0x6000, 0x8000
_POLARITY_BIT = 11
_TIME_BITS = 12


class EventEncodeError(TrackingError):
    """Events that EVT 3.0 cannot represent."""


def encode_evt3(events: Events, begin_s: float) -> NDArray[np.uint8]:
    """Encode one packet. It can be read on its own, except for wraps of the sensor's 24-bit clock.

    Args:
        events: times in seconds, ascending.
        begin_s: where the sensor's clock starts.

    Returns:
        [N] uint8; empty without events.

    Raises:
        EventEncodeError: times are before `begin_s` or descend, or pixels are beyond 2047.
    """
    if len(events.t) == 0:
        return np.empty(0, np.uint8)
    micros = np.floor((np.asarray(events.t, np.float64) - begin_s) * 1e6).astype(np.int64)
    x, y = np.asarray(events.x, np.int64), np.asarray(events.y, np.int64)
    if micros[0] < 0 or (np.diff(micros) < 0).any():
        raise EventEncodeError(f"events from {events.t[0]} s on must not be before {begin_s} s, nor go back in time")
    if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) >= MAX_SENSOR_SIDE_PX:
        raise EventEncodeError(f"events reach x {x.min()}..{x.max()}, y {y.min()}..{y.max()}; expected 0..2047")
    low = micros & ((1 << _TIME_BITS) - 1)
    high = (micros >> _TIME_BITS) & ((1 << _TIME_BITS) - 1)
    polarity = np.asarray(events.p).astype(bool).astype(np.int64)
    words = np.stack(
        [_TIME_HIGH | high, _TIME_LOW | low, _ADDR_Y | y, _ADDR_X | (polarity << _POLARITY_BIT) | x], axis=1
    )  # [N, 4]
    # A word that repeats the sensor's state is left out; the event's own word never is.
    needed = np.ones(words.shape, bool)
    needed[1:, :3] = words[1:, :3] != words[:-1, :3]
    needed[1:, 1] |= needed[1:, 0]
    return words[needed].astype("<u2").view(np.uint8)
