"""What is installed on this machine, what that means for the tracker, and one line of advice per fault."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ckd_core.frame import Modality

SUPPORTED_PYTHON = ((3, 10), (3, 14))
SUPPORTED_ROS = ("humble", "jazzy", "kilted", "lyrical")
SHM_SEGMENT_BYTES = 32 * 1024 * 1024
SHM_FOLDER = Path("/dev/shm")  # noqa: S108 - where Fast DDS keeps its segments
# Humble and Jazzy name their files by the first, Kilted and later by the second; sem. files are the ports' locks.
SHM_PREFIXES = ("fastrtps_", "fastdds_", "sem.fastrtps_", "sem.fastdds_")
SHM_FREE_BYTES = 128 * 1024 * 1024
LOCKS = Path("/proc/locks")
RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_max")
RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024  # as much as the segment of Fast DDS
SHIPPED_MODELS = ("sdstrack_m256", "sdstrack_s128", "ckd_s128")
MESSAGE_PACKAGES = ("sensor_msgs", "vision_msgs", "diagnostic_msgs", "visualization_msgs", "lifecycle_msgs")
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table.

    Attributes:
        subject: what was checked.
        value: what was observed.
        meaning: what that means for the tracker.
        advice: how to correct it; set for a fault only.
    """

    subject: str
    value: str
    meaning: str
    advice: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something needs correcting."""
        return bool(self.advice)


def examine(device: str = "auto") -> list[Finding]:
    """Return every finding in the order of the table. A check that itself fails becomes a fault of its own.

    Args:
        device: that the user intends to run on.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        lambda: _torch(device),
        _ros,
        _fast_dds,
        _shared_memory,
        _images,
        _engines,
        _weights,
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:  # noqa: BLE001 - the doctor must survive the faults that it looks for
            findings.append(
                Finding("check failed", f"{type(error).__name__}: {error}", "unknown", f"report this: {error}")
            )
    return findings


def examine_bag(path: Path, modality: Modality, rgb: str = "", aux: str = "") -> Iterator[Finding]:
    """Read a recording as the node would, without tracking, and say what is wrong with it.

    Args:
        path: rosbag2 folder, or a single .mcap or .db3 file.
        modality: of the auxiliary camera.
        rgb: colour topic; '' finds it by its name.
        aux: topic of the auxiliary camera; '' finds it by its name.

    Raises:
        BagError: the recording cannot be read, or its topics cannot be found.
    """
    from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
    from sdstrack_ros.bags.scoring import ReasonCounts
    from sdstrack_ros.bags.storage.opening import open_bag

    reasons, remarks = ReasonCounts(), list[str]()
    with open_bag(path) as bag:
        remarks += bag.remarks
        topics = choose_topics(bag, modality, BagTopics(rgb, aux))
        presences = [
            frame.frame.presence
            for frame in read_bag_frames(
                bag, topics, modality, on_reject=lambda r: reasons.add(r.reason), on_remark=remarks.append
            )
        ]
    both = sum(all(presence) for presence in presences)
    yield Finding(
        str(path), f"{len(presences)} frames, {both} with both images", f"{topics.rgb or '-'}, {topics.aux or '-'}"
    )
    yield from _problems(remarks)
    yield from _problems(f"{count} images refused: {reason}" for reason, count in reasons.counts.items())


def examine_topics(rgb: str, aux: str, modality: Modality, seconds: float) -> Iterator[Finding]:
    """Listen to live topics as the node would, without tracking, and say what is wrong with them."""
    from sdstrack_ros.node.inputs.topic_check import check_live_topics

    report = check_live_topics(rgb, aux, modality, seconds)
    for topic in filter(None, (rgb, aux)):
        yield Finding(topic, f"{report.received[topic]} messages in {seconds:g} s", "received")
    yield from _problems(report.problems)


def _problems(texts: Iterable[str]) -> Iterator[Finding]:
    """Findings of texts that name the fault and, after the last semicolon, what to do."""
    for text in texts:
        fault, _, advice = text.rpartition("; ")
        yield Finding("input", fault or text, "frames without a partner, or not of one view", advice or text)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _python() -> Iterator[Finding]:
    low, high = SUPPORTED_PYTHON
    good = low <= sys.version_info[:2] <= high
    advice = "" if good else f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}"
    yield Finding(
        "Python", f"{platform.python_version()} ({sys.executable})", "supported" if good else "too old or new", advice
    )


def _torch(device: str) -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", "missing", "no network can run", "install torch (rosdep key python3-torch)")
        return
    import torch

    cuda = torch.version.cuda
    build = f"CUDA {cuda}" if cuda else "CPU build"
    yield Finding("torch", f"{torch.__version__} ({build})", f"{torch.get_num_threads()} threads")
    available = torch.cuda.is_available()
    if available:
        name = torch.cuda.get_device_name(0)
        used, meaning = "cuda:0", name
    else:
        used, meaning = "cpu", "no CUDA device is usable"
    advice = ""
    if device.startswith("cuda") and not available:
        advice = f"'{device}' is requested, but 'cpu' will be used: check nvidia-smi, and that torch is a CUDA build"
    elif cuda and not available:
        advice = "torch was built for CUDA, but no device responds: check the driver (nvidia-smi)"
    yield Finding("device", f"requested: {device}; used: {used}", meaning, advice)


def _ros() -> Iterator[Finding]:
    if importlib.util.find_spec("rclpy") is None:
        yield Finding(
            "ROS 2",
            "no rclpy",
            "the node cannot run",
            "source a ROS 2 distribution, or run `make setup` for the wheels",
        )
        return
    distro = os.environ.get("ROS_DISTRO", "")
    wheels = _version("ros-rclpy")
    origin = f"distribution {distro}" if distro and not wheels else f"wheels, rclpy {wheels or _version('rclpy')}"
    bad = bool(distro) and distro not in SUPPORTED_ROS
    advice = f"'{distro}' is not supported; use one of {', '.join(SUPPORTED_ROS)}" if bad else ""
    yield Finding("ROS 2", origin, "node, bag player and demo can run" if not bad else "untested", advice)
    yield Finding("RMW", _rmw(), f"domain {os.environ.get('ROS_DOMAIN_ID', '0')}")
    missing = [name for name in MESSAGE_PACKAGES if importlib.util.find_spec(name) is None]
    advice = f"install the message packages {', '.join(missing)} (rosdep install, or `make setup`)" if missing else ""
    yield Finding(
        "messages",
        f"{len(MESSAGE_PACKAGES) - len(missing)} of {len(MESSAGE_PACKAGES)}",
        "complete" if not missing else "incomplete",
        advice,
    )
    for name, without in (
        ("message_filters", "the policies approximate and exact are unavailable; tolerant, the default, works"),
        ("cv_bridge", "rare image encodings are refused; all common ones work"),
        ("tf2_ros", "transforms go through the node's own buffer"),
        ("tf2_msgs", "targets are followed in the camera's own frame only, and have no frames on /tf"),
        ("event_camera_msgs", "event packets cannot be received; event images can"),
    ):
        here = importlib.util.find_spec(name) is not None
        yield Finding(name, "present" if here else "absent", "used" if here else without)


def _rmw() -> str:
    """Return the name of the middleware in use, '' without ROS."""
    if importlib.util.find_spec("rclpy") is None:
        return ""
    from rclpy.utilities import get_rmw_implementation_identifier

    return str(get_rmw_implementation_identifier())


def _fast_dds() -> Iterator[Finding]:
    rmw = _rmw()
    if "cyclonedds" in rmw:
        yield _receive_buffer()
    if "zenoh" in rmw:
        yield Finding(
            "Zenoh router", "not looked for", "nodes find each other by it: ros2 run rmw_zenoh_cpp rmw_zenohd"
        )
    if "fastrtps" not in rmw:
        yield Finding("Fast DDS profile", "not used", f"{rmw} has its own settings" if rmw else "no rclpy")
        return
    advice = f"set {' and '.join(PROFILE_VARIABLES)} to config/fastdds.xml, for the camera driver too"
    profiles = [(name, os.environ[name]) for name in PROFILE_VARIABLES if os.environ.get(name)]
    if not profiles:
        # The launch files set the profile for the node; a warning here would be a false alarm for their users.
        yield Finding(
            "Fast DDS profile", "none in this shell", "images may be lost at 30 Hz; the launch files set it: " + advice
        )
        return
    for name, path in profiles:
        segment = shared_memory_segment(Path(path))
        if segment is None:
            yield Finding(name, path, "unreadable or without shared memory", advice)
        elif segment < SHM_SEGMENT_BYTES:
            yield Finding(name, f"{path}: segment {segment} bytes", "too small for images", advice)
        else:
            yield Finding(name, f"{path}: segment {segment} bytes", "large enough for images")


def _receive_buffer() -> Finding:
    """How much of an image the kernel keeps while a process is busy: Cyclone DDS sends images by UDP."""
    size = int(RECEIVE_BUFFER.read_text()) if RECEIVE_BUFFER.is_file() else 0
    if size >= RECEIVE_BUFFER_BYTES:
        return Finding("receive buffer", f"{size} bytes", "large enough for images")
    return Finding(
        "receive buffer",
        f"{size} bytes",
        "images may be lost at 30 Hz",
        f"sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}, and set CYCLONEDDS_URI (docs/robots.md)",
    )


def shared_memory_segment(profile: Path) -> int | None:
    """Return the bytes of the largest shared-memory segment in a Fast DDS profile; None without a readable one."""
    try:
        root = ET.parse(profile).getroot()  # noqa: S314 - a local file that the user named
    except (OSError, ET.ParseError):
        return None
    texts = [node.text or "" for node in root.iter() if node.tag.endswith("segment_size")]
    return max((int(text) for text in texts if text.strip().isdigit()), default=None)


def _shared_memory() -> Iterator[Finding]:
    place = SHM_FOLDER
    if not place.is_dir():
        yield Finding(str(place), "absent", "images travel by UDP", f"mount a tmpfs on {place}")
        return
    free = shutil.disk_usage(place).free
    rmw = _rmw()
    if rmw and "fastrtps" not in rmw:
        yield Finding(str(place), f"{free >> 20} MiB free", f"{rmw} has its own settings")
        return
    files = [path for path in place.iterdir() if path.name.startswith(SHM_PREFIXES)]
    left = left_behind(files, LOCKS.read_text() if LOCKS.is_file() else "")
    low = free < SHM_FREE_BYTES
    starts = [start for start in SHM_PREFIXES if any(path.name.startswith(start) for path in files)]
    remedy = f"; while no ROS process runs: rm {' '.join(f'{place}/{start}*' for start in starts)}" if files else ""
    advice = f"free space in {place}: {SHM_FREE_BYTES >> 20} MiB are needed{remedy}" if low else ""
    meaning = "too little" if low else "enough"
    if left and not low:
        meaning += "; `fastdds shm clean` removes what killed processes have left behind"
    used = sum(path.stat().st_blocks * 512 for path in left if path.exists())
    behind = f", {len(left)} of them left behind ({used >> 20} MiB)" if left else ""
    yield Finding(str(place), f"{free >> 20} MiB free, {len(files)} Fast DDS files{behind}", meaning, advice)


def left_behind(files: Sequence[Path], locks: str) -> list[Path]:
    """Return the files of Fast DDS that no process uses.

    The files of one segment, or of one port, have one name and several endings. A process that uses them holds a lock
    on one of them.

    Args:
        files: all of them.
        locks: text of /proc/locks, which has a lock's file as MAJOR:MINOR:INODE, the first two in hexadecimal.
    """
    held = {fields[5] for line in locks.splitlines() if len(fields := line.replace("-> ", "").split()) > 5}
    groups: dict[str, list[Path]] = {}
    used = set()
    for path in files:
        name = re.sub(r"^sem\.|_(el|sl|mutex)$", "", path.name)
        groups.setdefault(name, []).append(path)
        try:
            about = path.stat()
        except OSError:  # gone since the folder was listed: its process is alive
            used.add(name)
            continue
        if f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}" in held:
            used.add(name)
    return [path for name, group in groups.items() if name not in used for path in group]


def _images() -> Iterator[Finding]:
    import cv2
    import numpy as np

    numpy_major, opencv_major = int(np.__version__.split(".")[0]), int(cv2.__version__.split(".")[0])
    advice = ""
    if importlib.util.find_spec("cv_bridge") is not None:
        if numpy_major >= 2 and os.environ.get("ROS_DISTRO") in ("humble", "jazzy", "kilted"):
            advice = "apt's cv_bridge needs NumPy 1: pip install 'numpy<2'"
        elif opencv_major >= 5:
            advice = "cv_bridge does not know OpenCV 5: pip install 'opencv-python-headless<5'"
    versions = f"OpenCV {cv2.__version__}, NumPy {np.__version__}"
    yield Finding("images", versions, "compatible" if not advice else "cv_bridge will fail", advice)


def _engines() -> Iterator[Finding]:
    for module, distribution, name in (
        ("onnxruntime", "onnxruntime", "ONNX Runtime"),
        ("openvino", "openvino", "OpenVINO"),
        ("tensorrt", "tensorrt", "TensorRT"),
    ):
        here = importlib.util.find_spec(module) is not None
        yield Finding(
            name, _version(distribution) or ("present" if here else "absent"), "engine usable" if here else "optional"
        )


def _weights() -> Iterator[Finding]:
    from ckd_core.models import checkpoint

    for name in SHIPPED_MODELS:
        path = checkpoint.default_weights(name)
        if not path.is_file():
            advice = f"reinstall the package, or run `make weights` (expected {path})"
            yield Finding(f"weights {name}", "missing", "the model needs a weights file", advice)
            continue
        try:
            _, metadata = checkpoint.load_tensors(path)  # compares the checksum
        except checkpoint.WeightsFileError as error:
            yield Finding(f"weights {name}", str(error), "unusable", "reinstall the package")
            continue
        yield Finding(f"weights {name}", f"{path.name}, sha256 {metadata.sha256[:12]}", "checksum correct")
