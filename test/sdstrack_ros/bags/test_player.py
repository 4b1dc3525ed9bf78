"""The player as a process of its own, heard over real DDS."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.bags.player import play
from sdstrack_ros.bags.storage.opening import IMAGE, BagError, open_bag
from sdstrack_ros.bags.writer import AUX_TOPICS, INFO_TOPIC, RGB_TOPIC, TRUTH_TOPIC, write_bag
from testkit.bags.scenes import custom_bag, image_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.ros.camera import RosTest

pytest.importorskip("rclpy")

COUNT = 15


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    frames = [
        MultiModalFrame(
            i / 30,
            rng.integers(0, 256, (48, 64, 3), dtype=np.uint8),
            np.full((48, 64), 1000 + i, np.uint16),
            Modality.DEPTH,
        )
        for i in range(COUNT)
    ]
    return write_bag(tmp_path_factory.mktemp("bags") / "bag", frames, [BoundingBox(i, 2, 9, 9) for i in range(COUNT)])


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[RosTest, dict[str, str]]]:
    from testkit.ros.camera import RosTest
    from testkit.ros.processes import private_domain, ros_environment

    with private_domain() as domain:
        environment = ros_environment(domain, tmp_path / "log")
        for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR"):
            monkeypatch.setenv(name, environment[name])
        test = RosTest(domain)
        try:
            yield test, environment
        finally:
            test.close()


def player(recording: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "sdstrack_ros.cli", "play", str(recording), *options]


@pytest.mark.ros
def test_every_message_arrives_unchanged_at_the_recorded_pace_with_clock(
    ros: tuple[RosTest, dict[str, str]], recording: Path, tmp_path: Path
) -> None:
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CameraInfo, Image
    from vision_msgs.msg import Detection2DArray

    from testkit.ros.processes import ros_process, wait_until

    test, environment = ros
    kinds = {RGB_TOPIC: Image, AUX_TOPICS[Modality.DEPTH]: Image, INFO_TOPIC: CameraInfo, TRUTH_TOPIC: Detection2DArray}
    for topic, kind in kinds.items():
        test.listen(kind, topic)
    test.listen(Clock, "/clock")
    with ros_process(player(recording, "--wait", "20", "--rate", "0.5"), environment, tmp_path / "play.log") as process:
        test.until(lambda: all(test.messages[t] for t in kinds), 40, "the first messages", process)
        # The player may end before everything it sent has been read here.
        wait_until(lambda: all(len(test.messages[t]) >= COUNT for t in kinds), 60, "all messages", test.spin)
        assert process.process.wait(60) == 0, process.output
        assert f"{RGB_TOPIC}: {COUNT} messages" in process.output
    depth = test.messages[AUX_TOPICS[Modality.DEPTH]]
    assert [np.frombuffer(m.data, np.uint16)[0] for m in depth] == [1000 + i for i in range(COUNT)]
    assert [m.detections[0].bbox.center.position.x for m in test.messages[TRUTH_TOPIC]] == [
        i + 4.5 for i in range(COUNT)
    ]

    def ticks() -> list[float]:
        return [m.clock.sec + m.clock.nanosec * 1e-9 for m in test.messages["/clock"]]

    length_s = (COUNT - 1) / 30
    wait_until(lambda: max(ticks()) - min(ticks()) > length_s - 0.1, 60, "the last ticks", test.spin)
    stamps = ticks()
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] == pytest.approx(length_s, abs=0.1)
    assert len(stamps) >= 20, "0.93 s at half the speed, 100 times a second, on a busy machine"


@pytest.mark.ros
def test_an_interrupted_loop_has_started_again_and_ends_with_status_0(
    ros: tuple[RosTest, dict[str, str]], recording: Path, tmp_path: Path
) -> None:
    from sensor_msgs.msg import Image

    from testkit.ros.processes import ros_process

    test, environment = ros
    test.listen(Image, RGB_TOPIC)
    options = ("--loop", "--rate", "4", "--topic", RGB_TOPIC, "--no-clock", "--wait", "20")
    # As a script's background job is started: with SIGINT ignored.
    ignoring = ["sh", "-c", 'trap "" INT; exec "$0" "$@"', *player(recording, *options)]
    with ros_process(ignoring, environment, tmp_path / "play.log") as process:
        test.until(lambda: len(test.messages[RGB_TOPIC]) > 2 * COUNT, 40, "two passes", process)
        assert process.interrupt() == 0, process.output
        assert "Traceback" not in process.output
        assert AUX_TOPICS[Modality.DEPTH] not in process.output
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in test.messages[RGB_TOPIC]]
    assert sum(later < earlier for earlier, later in itertools.pairwise(stamps)) >= 2


@pytest.mark.ros
def test_a_part_is_played_in_its_own_time(ros: tuple[RosTest, dict[str, str]], recording: Path) -> None:
    started = time.monotonic()
    report = play(recording, start_s=0.2, duration_s=0.2, topics=[RGB_TOPIC])
    assert report.messages == {RGB_TOPIC: 6}
    assert report.passes == 1
    assert time.monotonic() - started >= 0.2


def robots_bag(path: Path) -> Path:
    """Two messages on a latched topic and on one that is not, and a clock of its own that starts at 7 s."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
    from rosbags.rosbag2 import Writer

    from sdstrack_ros.bags.storage.opening import typestore

    endless, store = QosTime(0, 0), typestore()
    offered = Qos(
        QosHistory.UNKNOWN, 0, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, endless, endless,
        QosLiveliness.AUTOMATIC, endless, False,
    )  # fmt: skip
    text, clock = "std_msgs/msg/String", "rosgraph_msgs/msg/Clock"
    with Writer(path, version=9) as writer:
        latched = writer.add_connection("/map", text, typestore=store, offered_qos_profiles=[offered])
        others = [writer.add_connection(name, text, typestore=store) for name in ("/tf_static", "/words")]
        ticks = writer.add_connection("/clock", clock, typestore=store)
        for at in range(2):
            for connection in (latched, *others):
                data = store.serialize_cdr(store.types[text](f"{connection.topic} {at}"), text)
                writer.write(connection, 10**8 * (at + 1), bytes(data))
            tick = store.types[clock](store.types["builtin_interfaces/msg/Time"](7 + at, 0))
            writer.write(ticks, 10**8 * (at + 1), bytes(store.serialize_cdr(tick, clock)))
    return path


def test_a_recording_knows_which_topics_were_latched(tmp_path: Path) -> None:
    with open_bag(robots_bag(tmp_path / "robot")) as bag:
        latched = {topic.name: topic.latched for topic in bag.topics}
    assert latched == {"/map": True, "/tf_static": True, "/words": False, "/clock": False}


@pytest.mark.ros
def test_latched_topics_are_latched_and_the_recorded_clock_stays_silent(
    ros: tuple[RosTest, dict[str, str]], tmp_path: Path
) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rosgraph_msgs.msg import Clock
    from std_msgs.msg import String

    from testkit.ros.processes import wait_until

    test, _ = ros
    bag = robots_bag(tmp_path / "robot")
    for topic in ("/map", "/tf_static"):
        test.listen(String, topic, QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    test.listen(String, "/words")
    test.listen(Clock, "/clock")
    skipped: list[tuple[str, str]] = []
    report = play(bag, wait_s=20, rate=0.5, on_skip=lambda *what: skipped.append(what))
    wait_until(lambda: all(len(test.messages[t]) == 2 for t in ("/map", "/tf_static", "/words")), 60, "all", test.spin)
    assert report.skipped == ("/clock",)
    assert "/clock comes from the player" in skipped[0][1]
    assert all(tick.clock.sec == 0 for tick in test.messages["/clock"])
    with pytest.raises(BagError, match="to play the recorded one, switch the player's clock off"):
        play(bag, topics=["/clock"])
    assert play(bag, topics=["/clock"], clock=False).messages == {"/clock": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate = 0.0; expected a finite number above 0"),
        ({"rate": float("nan")}, "rate = nan"),
        ({"start_s": -1.0}, "start_s = -1.0; expected a finite number from 0"),
        ({"duration_s": 0.0}, "duration_s = 0.0"),
        ({"start_s": 9.0}, "nothing to play from 9.0 s on; it is 0.47 s long"),
        ({"topics": ["/none"]}, "no topic '/none'; its topics are:"),
    ],
)
def test_impossible_options_are_refused_before_playback(
    recording: Path, options: dict[str, float], message: str
) -> None:
    with pytest.raises(BagError, match=message):
        play(recording, **options)


@pytest.mark.ros
def test_topics_of_unknown_types_are_skipped_and_named(
    ros: tuple[RosTest, dict[str, str]], recording: Path, tmp_path: Path
) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import get_types_from_msg

    from sdstrack_ros.bags.storage.opening import typestore

    typestore().register(get_types_from_msg("int32 x", "nobody_msgs/msg/Odd"))
    try:
        with Writer(tmp_path / "odd", version=9) as writer:
            connection = writer.add_connection("/odd", "nobody_msgs/msg/Odd", typestore=typestore())
            writer.write(connection, 5, b"\0\1\0\0\7\0\0\0")
    finally:
        del typestore().types["nobody_msgs/msg/Odd"]
    skipped: list[tuple[str, str]] = []
    report = play(tmp_path / "odd", on_skip=lambda *what: skipped.append(what))
    assert report.skipped == ("/odd",)
    assert "type nobody_msgs/msg/Odd is not installed here" in skipped[0][1]
    with pytest.raises(BagError, match="nobody_msgs/msg/Odd is not installed"):
        play(tmp_path / "odd", topics=["/odd"])


YEAR_NS = 365 * 86_400 * 10**9


@pytest.mark.ros
@pytest.mark.parametrize("gap_ns", [5 * 10**9, YEAR_NS, 40 * YEAR_NS])
def test_the_player_waits_a_second_at_most_for_nothing(
    ros: tuple[RosTest, dict[str, str]], tmp_path: Path, gap_ns: int
) -> None:
    from rosgraph_msgs.msg import Clock

    test, _ = ros
    test.listen(Clock, "/clock", 1000)
    times = [10**9, 10**9 + 10**8, gap_ns + 10**9, gap_ns + 11 * 10**8]
    bag = custom_bag(tmp_path / "gap", [("/a", IMAGE, at, image_message(at)) for at in times])
    said: list[str] = []
    started = time.monotonic()
    report = play(bag, on_remark=said.append)
    assert 1.2 <= time.monotonic() - started < 10
    assert report.messages == {"/a": 4}
    assert (
        f"waits of up to {(gap_ns - 10**8) / 1e9:.1f} s, where the recording holds nothing, were cut to 1 s" in said[-1]
    )
    assert ("years apart" in said[0]) == (gap_ns >= YEAR_NS)
    test.spin(0.3)
    ticks = [tick.clock.sec for tick in test.messages["/clock"]]
    assert ticks == sorted(ticks)
    assert not [s for s in ticks if 2.2 <= s < gap_ns / 1e9 - 1], "the clock jumps"


@pytest.mark.ros
def test_gaps_are_played_when_they_are_asked_for(ros: tuple[RosTest, dict[str, str]], tmp_path: Path) -> None:
    bag = custom_bag(tmp_path / "gap", [("/a", IMAGE, at, image_message(at)) for at in (10**9, 35 * 10**8)])
    started = time.monotonic()
    assert play(bag, gaps=True).messages == {"/a": 2}
    assert time.monotonic() - started >= 2.5
