"""Play a recording through the real node and collect the boxes that it publishes.

The node and the player are separate processes in a private ROS domain; this process only listens.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from ckd_core.orphans import end_with_parent
from sdstrack_ros.bags.storage.opening import CAMERA_INFO, COMPRESSED_IMAGE, EVENT_PACKET, TF, open_bag
from sdstrack_ros.demo.domains import free_domain
from sdstrack_ros.messages.stamps import stamp_of
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.tracking.target_requests import detection_box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ckd_core.frame import BoundingBox
    from sdstrack_ros.bags.frames import BagTopics

START_TIMEOUT_S = 240.0  # a busy small machine that loads and warms up a large model
QUIET_S = 1.5  # the node is done when nothing has come for this long after playback
END_TIMEOUT_S = 10.0
MAX_PARTNER_WAIT_S = 10.0  # the largest value that max_wait_s allows
DISCOVERY_TIMEOUT_S = 15  # how long the player waits for the node to subscribe
NODE_NAME = "/tracker"


class LiveReplayError(TrackingError):
    """The node or the player failed."""


@dataclass(frozen=True, slots=True)
class LiveBox:
    """What the node published for a frame.

    Attributes:
        stamp_ns: of the frame.
        box: None when the message was empty: LOST, or no target.
        score: 0 without a box.
    """

    stamp_ns: int
    box: BoundingBox | None
    score: float


@dataclass(frozen=True, slots=True)
class LiveReplay:
    """Everything that the node published.

    Attributes:
        results: in order of arrival.
        status: the last values of ~/status.
        poses: x, y, z [m] of ~/target_pose by the stamp [ns] of the frame, in `pose_frame`.
        pose_frame: frame of the last pose; '' without one.
    """

    results: list[LiveBox]
    status: dict[str, str] = field(repr=False)
    poses: dict[int, tuple[float, float, float]] = field(default_factory=dict, repr=False)
    pose_frame: str = ""


@contextlib.contextmanager
def _process(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - this interpreter and our own modules
            command,
            env=dict(environment),
            stdout=stream,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509 - one system call; see ckd_core.orphans
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_TIMEOUT_S)


def fast_dds_profile() -> Path | None:
    """Return the package's Fast DDS profile, in the source tree or in the installed package's share folder."""
    beside = Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"
    if beside.is_file():
        return beside
    with contextlib.suppress(ImportError, LookupError):
        from ament_index_python.packages import get_package_share_directory

        installed = Path(get_package_share_directory("sdstrack_ros")) / "config" / "fastdds.xml"
        return installed if installed.is_file() else None
    return None


def _private_environment(domain: int, logs: Path) -> dict[str, str]:
    """Return the variables that let the processes of this run reach each other and nobody else."""
    environment = {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(logs),
        "PYTHONUNBUFFERED": "1",
    }
    if os.environ.get("ROS_DISTRO") == "humble":  # knows no discovery range yet
        environment["ROS_LOCALHOST_ONLY"] = "1"
    profile = fast_dds_profile()
    if profile is not None:
        environment["FASTDDS_DEFAULT_PROFILES_FILE"] = environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    return environment


@contextlib.contextmanager
def _folder_for_a_while(folder: Path) -> Iterator[Path]:
    """Yield the path of a folder that goes again, and whose content an earlier run may have left."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Listener:
    """Collects what the node publishes, in this process."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticStatus
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from vision_msgs.msg import Detection2DArray

        self.results: list[LiveBox] = []
        self.status: dict[str, str] = {}
        self.poses: dict[int, tuple[float, float, float]] = {}
        self.pose_frame = ""
        self.status_text = ""
        self.last_result = time.monotonic()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("live_replay", context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(Detection2DArray, f"{NODE_NAME}/detections", self._on_detections, 100)
        self._node.create_subscription(DiagnosticStatus, f"{NODE_NAME}/status", self._on_status, latched)
        self._node.create_subscription(PoseStamped, f"{NODE_NAME}/target_pose", self._on_pose, 100)

    def _on_detections(self, message: Any) -> None:
        box, score = None, 0.0
        if message.detections:
            detection = message.detections[0]
            box = detection_box(detection)
            score = detection.results[0].hypothesis.score if detection.results else 0.0
        self.results.append(LiveBox(stamp_of(message), box, score))
        self.last_result = time.monotonic()

    def _on_pose(self, message: Any) -> None:
        if message.header.frame_id != self.pose_frame:
            self.poses, self.pose_frame = {}, str(message.header.frame_id)
        place = message.pose.position
        self.poses[stamp_of(message)] = (place.x, place.y, place.z)

    def _on_status(self, message: Any) -> None:
        self.status = {pair.key: pair.value for pair in message.values}
        self.status_text = message.message

    def spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        self._context.try_shutdown()


def _input_arguments(
    topics: BagTopics, types: Mapping[str, str], modality: Modality
) -> tuple[dict[str, object], list[str]]:
    """Return the parameters that name the topics, and remappings of those not named as their transport would.

    Args:
        topics: what the node subscribes to.
        types: types of all recorded topics by name.
        modality: of the auxiliary camera.

    Raises:
        LiveReplayError: one camera is recorded raw, the other compressed.
    """
    compressed = {name: types[name] == COMPRESSED_IMAGE for name in (topics.rgb, topics.aux) if name in types}
    if types.get(topics.aux) == EVENT_PACKET:
        del compressed[topics.aux]  # packets have no transport
    if len(set(compressed.values())) > 1:
        forms = ", ".join(f"{name} is {'compressed' if packed else 'raw'}" for name, packed in compressed.items())
        raise LiveReplayError(
            f"{forms}; the node reads both cameras by one transport: record both raw or both compressed"
        )
    parameters: dict[str, object] = {"transport": "compressed" if any(compressed.values()) else "raw"}
    remappings: list[str] = []
    suffixes = ("/compressed", "/compressedDepth" if modality is Modality.DEPTH else "/compressed")
    for parameter, name, suffix in zip(("rgb_topic", "aux_topic"), (topics.rgb, topics.aux), suffixes, strict=True):
        base = name
        if compressed.get(name):
            base = name.removesuffix("/compressed").removesuffix("/compressedDepth")
            if base + suffix != name:
                remappings += ["-r", f"{base}{suffix}:={name}"]
        parameters[parameter] = base
    return {**parameters, "events_topic": topics.aux}, remappings


def _wait_for_partner(parameters: Mapping[str, object], rate: float) -> float:
    """Return max_wait_s [s] for this rate: the node waits in real time, and slow playback spreads partners apart."""
    max_wait_s = float(str(parameters.get("max_wait_s", Settings().max_wait_s)))
    return min(max_wait_s / min(rate, 1.0), MAX_PARTNER_WAIT_S)


def _parameter_arguments(parameters: Mapping[str, object]) -> list[str]:
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        if value == "":  # rcl cannot parse an empty value, and it is the default anyway
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        arguments += ["-p", f"{name}:={text}"]
    return arguments


def replay(
    bag: Path,
    topics: BagTopics,
    parameters: Mapping[str, object],
    logs: Path,
    progress: Callable[[int], object] = int,
    rate: float = 1.0,
) -> LiveReplay:
    """Play a recording through a node, and collect what it publishes.

    Args:
        bag: rosbag2 folder, or a single .mcap or .db3 file.
        topics: what the node subscribes to.
        parameters: of the node.
        logs: folder for the output of both processes.
        progress: called with the number of results so far.
        rate: playback speed; below 1, a small machine has time to track every frame.

    Raises:
        LiveReplayError: the node cannot read such topics or does not become active, or a process fails; the message
            contains its output.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with open_bag(bag) as opened:
        types = {topic.name: topic.type_name for topic in opened.topics}
    infos = [name for name, type_name in types.items() if type_name == CAMERA_INFO]
    transforms = [name for name, type_name in types.items() if type_name == TF]
    played_topics = [topic for topic in (topics.rgb, topics.aux, *infos[:1], *transforms) if topic]
    modality = Modality(str(parameters.get("modality", Settings().modality)))
    max_wait_s = _wait_for_partner(parameters, rate)
    inputs, remappings = _input_arguments(topics, types, modality)
    node_parameters = {
        **inputs,
        **({"camera_info_topic": infos[0]} if infos else {}),
        "autostart": True,
        **parameters,
        "max_wait_s": max_wait_s,
    }
    with (
        _folder_for_a_while(logs / ".ros") as ros_logs,  # the same lines once more, in a file for each process
        free_domain() as domain,
        _environment_with(_private_environment(domain.number, ros_logs)) as environment,
    ):
        node = [
            sys.executable,
            "-m",
            "sdstrack_ros.node.tracker_node",
            *_parameter_arguments(node_parameters),
            *remappings,
        ]
        player = [sys.executable, "-m", "sdstrack_ros.cli", "play", str(bag), "--rate", str(rate)]
        player += ["--wait", str(DISCOVERY_TIMEOUT_S)]
        player += [option for topic in played_topics for option in ("--topic", topic)]
        node_log, player_log = logs / "node.log", logs / "player.log"
        listener = _Listener(domain.number)
        try:
            with _process(node, environment, node_log) as node_process:
                _wait_active(listener, node_process, node_log)
                with _process(player, environment, player_log) as player_process:
                    _listen(listener, node_process, player_process, progress, QUIET_S + max_wait_s)
                    if player_process.poll():
                        raise LiveReplayError("the player failed:", *_tail(player_log))
                if node_process.poll() is not None:
                    raise LiveReplayError("the node ended during playback:", *_tail(node_log))
                _last_status(listener)
        finally:
            listener.close()
    return LiveReplay(listener.results, listener.status, listener.poses, listener.pose_frame)


@contextlib.contextmanager
def _environment_with(changes: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Set variables in this process too, whose listener shares the domain and the profile, and restore them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield dict(os.environ)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait_active(listener: _Listener, node: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while listener.status.get("lifecycle") != "active":
        listener.spin()
        if "configure failed" in listener.status_text:
            raise LiveReplayError(f"the node did not start: {listener.status_text}")
        if node.poll() is not None:
            raise LiveReplayError("the node ended before it was active:", *_tail(log))
        if time.monotonic() > deadline:
            raise LiveReplayError(f"the node was not active within {START_TIMEOUT_S:.0f} s:", *_tail(log))


def _listen(
    listener: _Listener,
    node: subprocess.Popen[bytes],
    player: subprocess.Popen[bytes],
    progress: Callable[[int], object],
    quiet_s: float,
) -> None:
    """Listen until playback has ended and nothing has come for `quiet_s`, or the node has ended."""
    playback_end = None
    while node.poll() is None:
        listener.spin()
        progress(len(listener.results))
        if player.poll() is None:
            continue
        playback_end = playback_end or time.monotonic()
        if time.monotonic() - max(playback_end, listener.last_result) > quiet_s:
            return


def _last_status(listener: _Listener) -> None:
    """Wait for the status that counts the last frames; the node publishes one per second."""
    listener.status = {}
    deadline = time.monotonic() + END_TIMEOUT_S
    while not listener.status and time.monotonic() < deadline:
        listener.spin()


def _tail(log: Path, lines: int = 15) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-lines:]
