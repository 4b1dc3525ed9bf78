"""Why pairs do not come, and images of two cameras that cannot be one view: in words, for people. No ROS import.

Live and from a recording alike, every message that goes to the synchronizer is seen here, and what it releases. Clocks
are compared by arrival: of two cameras that run at the same time, stamps minus arrivals differ by the latency of their
drivers, or by their clocks.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ckd_core.text import shown
from sdstrack_ros.messages.stamps import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sdstrack_ros.sync.types import SyncConfig, SyncedSet

MESSAGES = 64  # of each stream that are remembered
OUTCOMES = 30  # colour frames of which the share with a partner counts
MIN_OUTCOMES = 10
MIN_MESSAGES = 3
FEW = 0.5  # a smaller share of colour frames with a partner is worth a warning
CLOCK_S = 1.0  # no driver is that late
SLOWER = 0.75  # an auxiliary camera below this share of the colour rate is slower, not out of step
SAME_ASPECT = 0.02  # relative difference of aspects that rounding of sizes explains
MAX_SOURCES = 3  # named in one text
PAIRING, GEOMETRY, FRAMES = "pairing", "geometry", "frames"
SOURCES = {"rgb": "colour source", "aux": "auxiliary source"}


@dataclass(slots=True)
class _Stream:
    """The last messages of one stream: stamps, arrivals, and what tells one camera from another."""

    stamps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=MESSAGES))
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=MESSAGES))
    sources: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=MESSAGES))

    def times(self, since_ns: int) -> list[tuple[int, int]]:
        """Return (stamp, arrival) of the messages that arrived from `since_ns` on."""
        pairs = zip(self.stamps_ns, self.arrivals_ns, strict=True)
        return [(stamp, arrival) for stamp, arrival in pairs if arrival >= since_ns]

    @property
    def period_ns(self) -> int:
        """Typical distance between stamps; 0 where it is unknown."""
        steps = [b - a for a, b in pairwise(sorted(set(self.stamps_ns)))]
        return round(statistics.median(steps)) if steps else 0


class PairWatch:
    """Watches the two streams of one activation or recording.

    `built` is for the thread that decodes, everything else for that of the synchronizer.

    Attributes:
        config: of the synchronizer, as it is now.
        registered: whether a homography from colour to auxiliary pixels is known.

    """

    def __init__(
        self, config: SyncConfig, rgb_topic: str, aux_topic: str, modality: str, *, packets: bool, registered: bool
    ) -> None:
        """Begin without any message.

        Args:
            config: how the streams are paired.
            rgb_topic: for the texts.
            aux_topic: for the texts.
            modality: 'depth', 'thermal' or 'event', for the texts.
            packets: whether the auxiliary messages are event packets, which need no partner of their own stamp.
            registered: whether a homography from colour to auxiliary pixels is known.

        """
        self.config = config
        self.registered = registered
        self._topics = {"rgb": rgb_topic, "aux": aux_topic}
        self._modality = modality
        self._packets = packets
        self._streams = {"rgb": _Stream(), "aux": _Stream()}
        self._with_partner: deque[bool] = deque(maxlen=OUTCOMES)
        self._unreleased = 0  # colour messages since the last release: a stock policy releases whole pairs only
        self._geometry: dict[str, str] = {}
        self._compared: tuple[Any, ...] = ()
        self._alike = 0  # pairs in a row of the same sizes and frames

    def seen(self, stream: str, message: Any, stamp_ns: int, arrival_ns: int) -> None:
        """Note a message of the stream 'rgb', or of any other name for the auxiliary one."""
        known = self._streams["rgb" if stream == "rgb" else "aux"]
        if known.stamps_ns and known.stamps_ns[-1] - stamp_ns > self.config.ns("jump_back_s"):
            known.stamps_ns.clear()
            known.arrivals_ns.clear()
        self._unreleased += stream == "rgb"
        known.stamps_ns.append(stamp_ns)
        known.arrivals_ns.append(arrival_ns)
        known.sources.append((shown(message.header.frame_id), _looks(message)))

    def released(self, synced: SyncedSet) -> None:
        """Note whether a colour frame has found a partner."""
        self._unreleased = 0
        if synced.color is not None:
            self._with_partner.append(synced.aux is not None)

    def built(self, synced: SyncedSet, rgb_shape: tuple[int, ...], aux_shape: tuple[int, ...]) -> None:
        """Compare the decoded images of a pair: whether they can be one view, scaled."""
        if synced.color is None or synced.aux is None:
            return
        rgb_id = str(synced.color.payload.header.frame_id)
        aux_id = str(synced.aux.payload.header.frame_id)
        compared = (self.registered, rgb_shape[:2], aux_shape[:2], rgb_id, aux_id)
        self._alike = self._alike + 1 if compared == self._compared else 1
        self._compared = compared
        if self._alike != MIN_MESSAGES:  # a single broken image says nothing about how the cameras are mounted
            return
        (height, width), (aux_height, aux_width) = rgb_shape[:2], aux_shape[:2]
        ratio = width * aux_height / (height * aux_width)
        other_aspect = abs(ratio - 1) > SAME_ASPECT
        other_frame = self._modality == "depth" and rgb_id != aux_id
        if self.registered or not (other_aspect or other_frame):
            self._geometry = {}
            return
        why = (
            "images of another aspect are not one view, scaled"
            if other_aspect
            else "images of two frames may not show the same view"
        )
        option = " (realsense2_camera: align_depth.enable)" if self._modality == "depth" else ""
        self._geometry = {
            GEOMETRY if other_aspect else FRAMES: (
                f"{self._modality} of {aux_width} x {aux_height} pixels, frame_id '{shown(aux_id)}', beside colour of "
                f"{width} x {height}, frame_id '{shown(rgb_id)}': {why}; register {self._modality} to colour in the "
                f"driver{option}, or set aux_homography"
            )
        }

    def remarks(self) -> Mapping[str, str]:
        """Return what is wrong now, in words, by kind: PAIRING, GEOMETRY, FRAMES and those of SOURCES."""
        found = dict(self._geometry)
        pairing = self._pairing()
        if pairing:
            found[PAIRING] = pairing
        for name, kind in SOURCES.items():
            text = self._two_sources(name)
            if text:
                found[kind] = text
        return found

    def _two_sources(self, name: str) -> str:
        return self._different_images(name) or self._mixed_stamps(name)

    def _mixed_stamps(self, name: str) -> str:
        """Return that stamps repeat or go back and forth, as they do where two publishers send at one time."""
        if self._packets and name == "aux":
            return ""
        stamps = list(self._streams[name].stamps_ns)
        repeated = len(stamps) - len(set(stamps))
        back = sum(later < earlier for earlier, later in pairwise(stamps))
        if max(repeated, back) < MIN_MESSAGES:
            return ""
        what = f"{repeated} repeat a stamp" if repeated >= back else f"{back} are stamped before the one before them"
        topic = self._topics[name]
        return f"of the last {len(stamps)} images on {topic} {what}; if two publishers send on it, remap one of them"

    def _different_images(self, name: str) -> str:
        sources = list(self._streams[name].sources)
        ids = list(dict.fromkeys(frame_id for frame_id, _ in sources))
        named, what = ids, "frame_id"
        if len(ids) < 2:
            counts = Counter(look for _, look in sources)
            looks = [look for look, count in counts.items() if count >= MIN_MESSAGES]
            changes = sum(a != b for (_, a), (_, b) in pairwise(sources))
            if len(looks) < 2 or changes < MIN_MESSAGES:  # one change is a camera that was set up anew
                return ""
            named, what = looks, "size or encoding"
        listed = ", ".join(f"'{text}'" for text in named[:MAX_SOURCES]) + ", ..." * (len(named) > MAX_SOURCES)
        return (
            f"images of different {what} on {self._topics[name]}: {listed}; if two cameras publish on it, remap one of "
            "them"
        )

    def _pairing(self) -> str:
        color, aux = self._streams["rgb"], self._streams["aux"]
        outcomes = list(self._with_partner)
        if self._unreleased >= OUTCOMES:
            outcomes = [False] * OUTCOMES
        if len(outcomes) < MIN_OUTCOMES or min(len(color.stamps_ns), len(aux.stamps_ns)) < MIN_MESSAGES:
            return ""
        if color.arrivals_ns[-1] - aux.arrivals_ns[-1] > round(self.config.aux_dead_s * NS_PER_S):
            return ""
        begin_ns = max(color.arrivals_ns[0], aux.arrivals_ns[0])
        colors, auxs = color.times(begin_ns), aux.times(begin_ns)
        if min(len(colors), len(auxs)) < MIN_MESSAGES:  # event packets come a thousand times per second
            colors, auxs = color.times(0), aux.times(0)
        behind_ns = round(_median_delay(auxs) - _median_delay(colors))
        paired = sum(outcomes)
        many = paired >= FEW * len(outcomes)
        if many and abs(behind_ns) <= CLOCK_S * NS_PER_S:
            return ""
        name = self._modality
        share = f"only {paired} of the last {len(outcomes)} colour frames find" if paired else "no colour frame finds"
        found = f"colour frames find {name} partners of another moment" if many else f"{share} a {name} partner"
        cause = self._cause(behind_ns, color, aux)
        return f"{found}: {cause}" if cause else ""

    def _cause(self, behind_ns: int, color: _Stream, aux: _Stream) -> str:
        """Return why stamps do not meet.

        Args:
            behind_ns: by how much the auxiliary stamps lie behind those of colour, as they arrive.
            color: the colour stream.
            aux: the auxiliary stream.

        """
        name, apart_s = self._modality, abs(behind_ns) / NS_PER_S
        side = "behind" if behind_ns > 0 else "ahead"
        if apart_s > CLOCK_S:
            return (
                f"{name} is {apart_s:.1f} s {side}, its driver stamps with another clock; the drivers' clocks have to "
                "be one: stamp by the system's time (realsense2_camera: global_time_enabled) or synchronize the "
                "cameras (PTP)"
            )
        if self._packets:
            return ""
        skew_s = self.config.max_skew_s
        nearest = [min(abs(stamp - other) for other in color.stamps_ns) / NS_PER_S for stamp in aux.stamps_ns]
        if sum(distance <= skew_s for distance in nearest) >= FEW * len(nearest) and aux.period_ns <= color.period_ns:
            if behind_ns / NS_PER_S < self.config.max_wait_s:
                return ""
            return (
                f"{name} arrives {apart_s:.2f} s after colour of the same stamp, max_wait_s is "
                f"{self.config.max_wait_s:g} s; set max_wait_s to {apart_s * 1.2:.2f}, or make its driver faster"
            )
        rates = [NS_PER_S / stream.period_ns if stream.period_ns else 0.0 for stream in (color, aux)]
        if rates[1] and rates[1] < SLOWER * rates[0]:
            if self.config.aux_hold_s >= 1 / rates[1]:
                return ""
            return (
                f"{name} comes at {rates[1]:.1f} Hz, colour at {rates[0]:.1f} Hz; set both cameras to one rate, or "
                f"aux_hold_s to {1 / rates[1] + skew_s:.3f}, so that each {name} image serves until the next"
            )
        distance_s = statistics.median(nearest)
        if distance_s <= skew_s:
            return ""
        half_s = aux.period_ns / NS_PER_S / 2
        if apart_s > max(self.config.max_wait_s, 2 * half_s):
            return (
                f"{name} is {apart_s:.2f} s {side}: its driver stamps with another clock, or is that late; stamp both "
                "by the system's time when the image is taken"
            )
        return (
            f"the nearest {name} stamps are {distance_s * 1e3:.0f} ms away, max_skew_s is {skew_s:g} s; set max_skew_s "
            f"to {half_s + 0.001:.3f} (half a period of {name}), or trigger both cameras together"
        )


def _median_delay(times: list[tuple[int, int]]) -> float:
    return statistics.median(arrival - stamp for stamp, arrival in times)


def _looks(message: Any) -> str:
    """Return what an image says of itself, for telling two cameras apart."""
    if hasattr(message, "format"):
        return shown(message.format)
    if hasattr(message, "encoding") and hasattr(message, "width"):
        return f"{int(message.width)} x {int(message.height)} {shown(message.encoding)}"
    return ""
