from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sdstrack_ros.commands
from ckd_core.cli import build_app
from ckd_core.frame import Modality
from sdstrack_ros import doctor
from sdstrack_ros.bags.storage.opening import IMAGE
from sdstrack_ros.bags.writer import write_bag
from testkit.bags.scenes import custom_bag, image_message, random_frames
from testkit.ros.processes import private_domain, ros_environment, start_process

ROOT = Path(__file__).parents[2]


def finding(findings: list[doctor.Finding], subject: str) -> doctor.Finding:
    return next(item for item in findings if item.subject.startswith(subject))


def test_a_sound_machine_has_no_fault() -> None:
    findings = doctor.examine()
    assert not [item for item in findings if item.is_fault]
    subjects = {item.subject for item in findings}
    assert {"Python", "torch", "device", "ROS 2", "RMW", "images", "/dev/shm"} <= subjects


def test_absent_cuda_is_a_fault_only_when_requested() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    device = finding(doctor.examine("cuda:0"), "device")
    assert device.value == "requested: cuda:0; used: cpu"
    assert device.is_fault


def test_missing_torch_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    assert finding(doctor.examine(), "torch").advice.startswith("install torch")


def test_a_small_segment_in_the_profile_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped = ROOT / "config" / "fastdds.xml"
    assert doctor.shared_memory_segment(shipped) == doctor.SHM_SEGMENT_BYTES
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(shipped))
    assert not finding(doctor.examine(), "FASTDDS").is_fault
    small = tmp_path / "small.xml"
    small.write_text(shipped.read_text().replace(str(doctor.SHM_SEGMENT_BYTES), "65536"))
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(small))
    assert finding(doctor.examine(), "FASTDDS").is_fault
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(tmp_path / "absent.xml"))
    assert finding(doctor.examine(), "FASTDDS").is_fault


def test_full_shared_memory_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SHM_FREE_BYTES", 1 << 60)
    assert "free space in /dev/shm" in finding(doctor.examine(), "/dev/shm").advice


@pytest.mark.parametrize("prefix", ["fastrtps", "fastdds"])  # Humble and Jazzy; Kilted and later
def test_the_page_tells_left_over_segments_from_those_in_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str
) -> None:
    def segment(number: int) -> Path:
        (tmp_path / f"{prefix}_{number:016x}").write_bytes(b"1" * 100_000)
        lock = tmp_path / f"{prefix}_{number:016x}_el"
        lock.touch()
        return lock

    for number in range(50):
        segment(number)
    (tmp_path / f"sem.{prefix}_port7411_mutex").touch()
    (tmp_path / "pulse-shm-1").touch()
    monkeypatch.setattr(doctor, "SHM_FOLDER", tmp_path)
    with segment(99).open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)  # as Fast DDS does it
        enough = finding(doctor.examine(), str(tmp_path))
        assert enough.value.endswith("103 Fast DDS files, 101 of them left behind (4 MiB)")
        assert enough.meaning == "enough; `fastdds shm clean` removes what killed processes have left behind"
        assert not enough.is_fault
        page = CliRunner().invoke(build_app(sdstrack_ros.commands), ["doctor"], env={"COLUMNS": "400"}).output
        assert "101 of them left behind (4 MiB)" in page
        monkeypatch.setattr(doctor, "SHM_FREE_BYTES", 1 << 60)
        advice = finding(doctor.examine(), str(tmp_path)).advice
        assert advice.endswith(f"; while no ROS process runs: rm {tmp_path}/{prefix}_* {tmp_path}/sem.{prefix}_*")


NODE = """
import rclpy
rclpy.init()
node = rclpy.create_node("short_lived")
print("up", flush=True)
input()
"""


@pytest.mark.ros
def test_the_segments_of_a_killed_process_are_left_behind_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    def files() -> set[Path]:
        return {path for path in doctor.SHM_FOLDER.iterdir() if path.name.startswith(doctor.SHM_PREFIXES)}

    def inode(path: Path) -> int | None:
        """None where another process has just removed its file."""
        try:
            return path.stat().st_ino
        except FileNotFoundError:
            return None

    def left() -> set[Path]:
        return set(doctor.left_behind(sorted(own), doctor.LOCKS.read_text()))

    if "fastrtps" not in doctor._rmw():
        pytest.skip("another middleware has no such files")
    with private_domain() as domain:
        process = start_process(
            [sys.executable, "-c", NODE],
            ros_environment(domain, tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            before = files()
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            inodes = locks_of(process.pid)
            locked = {path for path in files() if inode(path) in inodes}
            own = locked | {path for path in files() - before if f"{path.name}_el" in {lock.name for lock in locked}}
            assert own
            assert not left()
            process.kill()
        try:
            assert left() == {path for path in own if path.exists()}
            assert left()
        finally:
            for path in own:
                path.unlink(missing_ok=True)


def locks_of(pid: int) -> set[int]:
    """Inodes of the files on which a process holds a lock."""
    fields = (line.split() for line in doctor.LOCKS.read_text().splitlines())
    return {int(words[5].rpartition(":")[2]) for words in fields if words[4] == str(pid)}


@pytest.mark.parametrize("rmw", ["rmw_zenoh_cpp", "rmw_cyclonedds_cpp"])
def test_another_middleware_needs_neither_profile_nor_segments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rmw: str
) -> None:
    monkeypatch.setattr("rclpy.utilities.get_rmw_implementation_identifier", lambda: rmw)
    monkeypatch.setattr(doctor, "SHM_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(doctor, "RECEIVE_BUFFER", tmp_path / "rmem_max")
    (tmp_path / "rmem_max").write_text("33554432\n")
    findings = doctor.examine()
    assert finding(findings, "RMW").value == rmw
    for subject in ("Fast DDS profile", "/dev/shm"):
        assert finding(findings, subject).meaning == f"{rmw} has its own settings"
    assert not [item for item in findings if item.is_fault]
    if "zenoh" in rmw:
        assert "rmw_zenohd" in finding(findings, "Zenoh router").meaning
        return
    (tmp_path / "rmem_max").write_text("212992\n")
    buffer = finding(doctor.examine(), "receive buffer")
    assert (buffer.value, buffer.meaning) == ("212992 bytes", "images may be lost at 30 Hz")
    assert "net.core.rmem_max=33554432" in buffer.advice


def test_damaged_weights_are_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ckd_core.models import checkpoint

    monkeypatch.setattr(checkpoint, "default_weights", lambda name: tmp_path / f"{name}.safetensors")
    assert "reinstall" in finding(doctor.examine(), "weights sdstrack_s128").advice


def test_a_fault_leads_to_exit_status_1_and_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = doctor.Finding("torch", "missing", "no network can run", "install torch")
    monkeypatch.setattr(doctor, "examine", lambda device: [fault])
    done = CliRunner().invoke(build_app(sdstrack_ros.commands), ["doctor"])
    assert done.exit_code == 1
    assert "torch: install torch" in done.output


@pytest.mark.parametrize(
    ("late_s", "fault", "advice"),
    [
        (-3.2, "depth is 3.2 s behind, its driver stamps with another clock", "global_time_enabled"),
        (0.02, "the nearest depth stamps are 20 ms away", "set max_skew_s to 0.034"),
    ],
)
def test_a_recording_whose_pairs_do_not_come_is_a_fault(tmp_path: Path, late_s: float, fault: str, advice: str) -> None:
    messages = []
    for i in range(20):
        at = 10**18 + i * 66_666_667
        messages += [("/color", IMAGE, at, image_message(at))]
        messages += [("/depth", IMAGE, at + 1000, image_message(at + round(late_s * 1e9), "16UC1", 24, 8))]
    bag = custom_bag(tmp_path / "bag", messages)
    findings = list(doctor.examine_bag(bag, Modality.DEPTH))
    assert findings[0].value.endswith(" frames, 0 with both images")
    assert [fault in f.value and advice in f.advice for f in findings if f.is_fault] == [True]
    shown = CliRunner().invoke(build_app(sdstrack_ros.commands), ["doctor", "--bag", str(bag)])
    assert shown.exit_code == 1
    assert advice in shown.output


def test_a_recording_in_order_has_no_fault(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", random_frames(20, Modality.DEPTH))
    findings = list(doctor.examine_bag(bag, Modality.DEPTH))
    assert [f.value for f in findings] == ["20 frames, 20 with both images"]
    shown = CliRunner().invoke(build_app(sdstrack_ros.commands), ["doctor", "--bag", str(bag)])
    assert shown.exit_code == 0
