from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdstrack_ros.messages import transforms
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import RigidTransform, TransformError, TransformTree


def stamped(
    child: str,
    parent: str,
    seconds: float = 0.0,
    yaw: float = 0.0,
    place: tuple[float, float, float] = (0.0, 0.0, 0.0),
    quaternion: tuple[float, float, float, float] | None = None,
) -> Any:
    """What a TransformStamped has."""
    x, y, z, w = quaternion or (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    sec, nanosec = divmod(round(seconds * NS_PER_S), NS_PER_S)
    stamp = SimpleNamespace(sec=sec, nanosec=nanosec)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id=parent),
        child_frame_id=child,
        transform=SimpleNamespace(
            rotation=SimpleNamespace(x=x, y=y, z=z, w=w),
            translation=SimpleNamespace(x=place[0], y=place[1], z=place[2]),
        ),
    )


def at(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def robot() -> TransformTree:
    """A robot that drives 1 m/s along x and turns 90 degrees in a second; its camera is 0.5 m ahead of its middle."""
    tree = TransformTree()
    for tenth in range(11):
        turned = math.pi / 2 * tenth / 10
        tree.add(stamped("base", "odom", 100 + tenth / 10, turned, (tenth / 10, 0.0, 0.0)), at(tenth / 10))
    tree.add(stamped("camera", "base", place=(0.5, 0.0, 0.0)), 0, fixed=True)
    tree.add(stamped("odom", "map", 100, place=(0.0, 10.0, 0.0)), 0, fixed=True)
    return tree


def test_points_go_through_the_chain_of_frames_at_their_time() -> None:
    tree = robot()
    ahead = np.array((1.0, 0.0, 0.0))
    np.testing.assert_allclose(tree.lookup("odom", "camera", at(100.0)).apply(ahead), (1.5, 0, 0), atol=1e-9)
    np.testing.assert_allclose(tree.lookup("map", "camera", at(101.0)).apply(ahead), (1.0, 11.5, 0), atol=1e-9)
    np.testing.assert_allclose(
        tree.lookup("camera", "map", at(101.0)).apply(np.array((1.0, 11.5, 0))), ahead, atol=1e-9
    )
    np.testing.assert_allclose(tree.lookup("odom", "camera", None).apply(ahead), (1.0, 1.5, 0), atol=1e-9)


def test_between_two_stamps_the_turn_is_interpolated_as_a_turn() -> None:
    transform = robot().lookup("odom", "base", at(100.25))
    angle = math.pi / 2 * 0.25
    np.testing.assert_allclose(transform.rotation[:2, 0], (math.cos(angle), math.sin(angle)), atol=1e-9)
    np.testing.assert_allclose(transform.translation, (0.25, 0, 0), atol=1e-9)


@pytest.mark.parametrize(
    ("target", "source", "seconds", "reason"),
    [
        ("odom", "camera", 101.2, "known only until 0.200 s before that time"),
        ("odom", "camera", 99.0, "known only from 1.000 s after that time"),
        ("odom", "lidar", 100.0, "no transform from 'lidar' to 'odom'; expected a known frame"),
        ("world", "camera", 100.0, "expected a known frame"),
    ],
)
def test_what_is_not_known_is_refused_with_the_reason(target: str, source: str, seconds: float, reason: str) -> None:
    with pytest.raises(TransformError, match=reason):
        robot().lookup(target, source, at(seconds))


@pytest.mark.parametrize("seconds", [3700.0, 2.0**31 - 1, 104.0, 50.0, 1.0])
def test_one_glitched_stamp_is_refused_and_costs_no_other_transform(seconds: float) -> None:
    tree = robot()
    with pytest.raises(TransformError, match=r"header.stamp jumps by .* until a second one confirms"):
        tree.add(stamped("base", "odom", seconds, place=(50.0, 0.0, 0.0)), at(1.05))
    tree.add(stamped("base", "odom", 101.1, place=(1.1, 0.0, 0.0)), at(1.1))
    with pytest.raises(TransformError, match="jumps"):
        tree.add(stamped("base", "odom", seconds, place=(50.0, 0.0, 0.0)), at(1.15))
    for moment in (100.0, 101.0, 101.05):
        assert tree.lookup("odom", "base", at(moment)).translation[0] == pytest.approx(moment - 100)
    np.testing.assert_allclose(tree.lookup("odom", "base", None).translation, (1.1, 0, 0))


@pytest.mark.parametrize("begin", [50.0, 1.0, 3700.0])
def test_a_recording_that_starts_again_and_a_changed_clock_are_followed_from_the_second_one_on(begin: float) -> None:
    tree = robot()
    with pytest.raises(TransformError, match="jumps"):
        tree.add(stamped("base", "odom", begin, place=(7.0, 0, 0)), at(1.1))
    tree.add(stamped("base", "odom", begin + 0.1, place=(8.0, 0, 0)), at(1.2))
    tree.add(stamped("base", "odom", begin + 0.2, place=(9.0, 0, 0)), at(1.3))
    np.testing.assert_allclose(tree.lookup("odom", "base", at(begin + 0.15)).translation, (8.5, 0, 0))


def test_a_publisher_that_paused_or_is_slow_is_believed_at_once() -> None:
    tree = robot()
    for seconds, arrival_s in ((130.0, 30.0), (190.0, 90.0), (189.5, 90.1), (190.5, 90.5)):
        tree.add(stamped("base", "odom", seconds, place=(seconds, 0, 0)), at(arrival_s))
        tree.lookup("odom", "base", at(seconds))


@pytest.mark.parametrize(
    "message",
    [
        stamped("a", "b", quaternion=(0.0, 0.0, 0.0, 0.0)),
        stamped("a", "b", quaternion=(0.5, 0.5, 0.5, 0.6)),
        stamped("a", "b", quaternion=(math.nan, 0.0, 0.0, 1.0)),
        stamped("a", "b", place=(math.inf, 0.0, 0.0)),
        stamped("a", "b", place=(0.0, 1e300, 0.0)),
        stamped("a", "b", seconds=-3.0),
        stamped("a" * 1_000_000, "b"),
        stamped("a", "b" * 257),
        stamped("a", "a"),
        stamped("", "b"),
    ],
)
def test_what_is_no_transform_is_refused_and_changes_nothing(message: Any) -> None:
    tree = robot()
    with pytest.raises(TransformError, match="expected") as refusal:
        tree.add(message, at(1.1))
    assert len(str(refusal.value)) < 500
    tree.lookup("odom", "camera", at(100.5))


def test_the_number_of_frames_is_bounded_and_a_circle_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_FRAMES", 5)
    tree = robot()
    tree.add(stamped("a", "b"), 0)
    tree.add(stamped("b", "a"), 0)
    with pytest.raises(TransformError, match="one frame more than the 5"):
        tree.add(stamped("c", "d"), 0)
    with pytest.raises(TransformError):
        tree.lookup("map", "a", 0)


def test_a_publisher_whose_clock_stands_still_fills_no_memory() -> None:
    tree = robot()
    before = sum(len(track.kept) for track in tree._moving.values())
    for metre in range(1000):
        tree.add(stamped("base", "odom", 101.0, place=(float(metre), 0.0, 0.0)), at(1.0 + metre))
    assert sum(len(track.kept) for track in tree._moving.values()) == before
    np.testing.assert_allclose(tree.lookup("odom", "base", at(101.0)).translation, (999, 0, 0))


def test_the_transforms_of_a_frame_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_KEPT", 50)
    tree = TransformTree()
    for i in range(200):
        tree.add(stamped("base", "odom", 100 + i / 1000, place=(float(i), 0.0, 0.0)), at(i / 1000))
    assert len(tree._moving["base"].kept) == 50
    np.testing.assert_allclose(tree.lookup("odom", "base", None).translation, (199, 0, 0))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_quaternion_comes_back_as_it_was_sent(values: list[float]) -> None:
    unit = np.array(values) / np.linalg.norm(values)
    sent = RigidTransform.from_message(stamped("a", "b", quaternion=tuple(unit)).transform)  # type: ignore[arg-type]
    np.testing.assert_allclose(sent.rotation @ sent.rotation.T, np.eye(3), atol=1e-9)
    back = RigidTransform.from_message(stamped("a", "b", quaternion=sent.quaternion()).transform)
    np.testing.assert_allclose(
        back.rotation, sent.rotation, atol=1e-5
    )  # near half a turn, microradians are below its rounding
