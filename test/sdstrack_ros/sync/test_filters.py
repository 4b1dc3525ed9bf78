from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ckd_core.frame import Modality
from ckd_core.modality import ModalityOptions, depth_in_metres, to_network_image
from sdstrack_ros.messages.image_codec import encode
from sdstrack_ros.sync import message_filters_compat
from sdstrack_ros.sync.filters import POLICIES, StockFilter, synchronize
from sdstrack_ros.sync.frame_builder import FrameBuilder, make_synchronizer
from sdstrack_ros.sync.message_filters_compat import SimpleFilter, Subscriber
from sdstrack_ros.sync.types import Sample, SyncConfig, SyncedSet, SyncError

MS = 1_000_000


def image(stamp_ms: int, pixels: np.ndarray | None = None, encoding: str = "rgb8") -> Any:
    """A real message: message_filters of a distribution refuses other types, down to that of the stamp."""
    stamp = Time(sec=stamp_ms // 1000, nanosec=stamp_ms % 1000 * MS)
    message: Any = Image(header=Header(stamp=stamp, frame_id="cam"))
    return encode(np.zeros((4, 6, 3), np.uint8) if pixels is None else pixels, encoding, message)


def test_tolerant_takes_sources_and_offers_register_callback() -> None:
    color, aux, now = SimpleFilter(), SimpleFilter(), [0]
    pairs = synchronize(color, aux, "tolerant", SyncConfig(), steady_ns=lambda: now[0])
    released: list[tuple[SyncedSet, str]] = []
    pairs.registerCallback(lambda synced, word: released.append((synced, word)), "extra")
    color.signalMessage(image(1000))
    assert not released
    aux.signalMessage(image(1005))
    assert [(s.skew_ns, word) for s, word in released] == [(5 * MS, "extra")]
    color.signalMessage(image(1033))
    assert pairs.next_deadline_ns == 50 * MS
    now[0] = 50 * MS
    pairs.poll()
    assert released[1][0].aux is None
    assert pairs.counters.color_alone == 1


@pytest.mark.skipif(message_filters_compat.HAVE_MESSAGE_FILTERS, reason="message_filters is installed here")
@pytest.mark.parametrize("policy", ["approximate", "exact"])
def test_stock_policies_say_what_is_missing(policy: str) -> None:
    with pytest.raises(SyncError, match=f"'{policy}' needs the package message_filters"):
        synchronize(SimpleFilter(), SimpleFilter(), policy, SyncConfig())


@pytest.mark.skipif(not message_filters_compat.HAVE_MESSAGE_FILTERS, reason="message_filters is not installed here")
@pytest.mark.parametrize(("policy", "skew"), [("approximate", 5), ("exact", 0)])
def test_stock_policies_pair_and_survive_a_jump_back_and_an_exception(policy: str, skew: int) -> None:
    color, aux = SimpleFilter(), SimpleFilter()
    pairs = synchronize(color, aux, policy, SyncConfig())
    assert isinstance(pairs, StockFilter)
    released: list[SyncedSet] = []

    def callback(synced: SyncedSet) -> None:
        released.append(synced)
        if len(released) == 1:
            raise RuntimeError("a user's mistake")

    pairs.registerCallback(callback)
    for start in (100_000, 1000):
        for i in range(15):
            color.signalMessage(image(start + 33 * i))
            try:
                aux.signalMessage(image(start + 33 * i + skew))
            except RuntimeError:
                assert len(released) == 1
    assert len(released) == 30
    assert released[-1].epoch == 1


def test_unknown_policies_and_packets_with_stock_ones_are_refused() -> None:
    with pytest.raises(SyncError, match="unknown sync policy 'best'; expected one of: tolerant"):
        synchronize(SimpleFilter(), SimpleFilter(), "best", SyncConfig())
    with pytest.raises(SyncError, match="event packets need 'tolerant'"):
        synchronize(SimpleFilter(), SimpleFilter(), "exact", SyncConfig(), packets=True)
    assert POLICIES == ("tolerant", "approximate", "exact")


def test_subscriber_is_a_nodes_subscription() -> None:
    subscriptions = []

    class Node:
        def create_subscription(self, kind: Any, topic: str, callback: Any, qos_profile: Any, **more: Any) -> Any:
            subscriptions.append((kind, topic, qos_profile, callback))
            return "subscription"

    if message_filters_compat.HAVE_MESSAGE_FILTERS:
        pytest.skip("the stock class is in use")
    source = Subscriber(Node(), int, "rgb", qos_profile=5)
    got: list[Any] = []
    source.registerCallback(got.append)
    subscriptions[0][3]("message")
    assert subscriptions[0][:3] == (int, "rgb", 5)
    assert got == ["message"]


@pytest.mark.parametrize("unit_m", [0.0001, 0.00025, 0.001, 0.01])
def test_depth_in_any_unit_is_the_same_view_for_the_network_and_for_3d(unit_m: float) -> None:
    metres = np.linspace(0.7, 6.0, 24, dtype=np.float32).reshape(4, 6)
    metres[0, 0] = 0  # no return
    counts = np.round(metres / unit_m).astype(np.uint16)
    builder = FrameBuilder(Modality.DEPTH, depth_unit_m=unit_m)
    for depth, encoding in ((counts, "16UC1"), (metres, "32FC1")):
        released = SyncedSet(1, None, Sample(1, 1, image(1000, depth, encoding)), False, 0, 0, 1)
        frame, refused = builder.build(released)
        assert not refused
        np.testing.assert_allclose(depth_in_metres(frame.aux), metres, atol=unit_m)
        shown = to_network_image(frame.aux, Modality.DEPTH, ModalityOptions(depth_colormap=False))[..., 0]
        expected = to_network_image(metres, Modality.DEPTH, ModalityOptions(depth_colormap=False))[..., 0]
        assert np.abs(shown.astype(int) - expected).max() <= np.ceil(255 * unit_m / 6.0)


def test_frames_are_built_whole_degraded_or_refused_with_a_reason() -> None:
    builder = FrameBuilder(Modality.DEPTH, "rgb_topic", "aux_topic")
    depth = np.full((4, 6), 1500, np.uint16)

    def built(color: Any, aux: Any) -> Any:
        sync = make_synchronizer(SyncConfig(), packets=False)
        released = sync.add_color(1000 * MS, 0, color) if color else []
        released += sync.add_aux(1000 * MS, 0, aux) if aux else []
        released += sync.poll(10**10)
        return builder.build(released[0])

    frame, refused = built(image(1000), image(1000, depth, "16UC1"))
    assert frame.presence == (True, True)
    assert frame.stamp == 1.0
    assert not refused
    frame, refused = built(image(1000), image(1000))
    assert frame.presence == (True, False)
    assert [(r.stream, r.topic) for r in refused] == [("aux", "aux_topic")]
    assert "carries no depth" in refused[0].reason
    frame, refused = built(image(1000, depth, "16UC1"), None)
    assert frame is None
    assert "is a depth topic remapped" in refused[0].reason
