from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sdstrack_ros.commands
from ckd_core.cli import build_app
from sdstrack_ros import doctor

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
