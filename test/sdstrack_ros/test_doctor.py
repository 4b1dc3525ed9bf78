from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sdstrack_ros.commands
from ckd_core.cli import build_app
from ckd_core.frame import Modality
from sdstrack_ros import doctor
from sdstrack_ros.bags.storage import IMAGE
from sdstrack_ros.bags.writer import write_bag
from testkit.bag_scenes import custom_bag, image_message, random_frames

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
def test_files_of_every_fast_dds_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str) -> None:
    for number in range(25):
        (tmp_path / f"{prefix}_{number:016x}").touch()
        (tmp_path / f"{prefix}_{number:016x}_el").touch()
    (tmp_path / "pulse-shm-1").touch()
    monkeypatch.setattr(doctor, "SHM_FOLDER", tmp_path)
    enough = finding(doctor.examine(), str(tmp_path))
    assert "50 Fast DDS files" in enough.value
    assert "fastdds shm clean" in enough.meaning
    assert not enough.is_fault
    monkeypatch.setattr(doctor, "SHM_FREE_BYTES", 1 << 60)
    assert finding(doctor.examine(), str(tmp_path)).advice.endswith(f": rm {tmp_path}/{prefix}_*")


@pytest.mark.parametrize("rmw", ["rmw_zenoh_cpp", "rmw_cyclonedds_cpp"])
def test_another_middleware_needs_neither_profile_nor_segments(monkeypatch: pytest.MonkeyPatch, rmw: str) -> None:
    monkeypatch.setattr("rclpy.utilities.get_rmw_implementation_identifier", lambda: rmw)
    monkeypatch.setattr(doctor, "SHM_FREE_BYTES", 1 << 60)
    findings = doctor.examine()
    assert finding(findings, "RMW").value == rmw
    for subject in ("Fast DDS profile", "/dev/shm"):
        assert finding(findings, subject).meaning == f"{rmw} has its own settings"
    assert not [item for item in findings if item.is_fault]


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
