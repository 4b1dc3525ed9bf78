from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools" / "environment" / "setup.py"


@pytest.fixture
def setup_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment_setup", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def base_python() -> str:
    """The interpreter that the virtual environment was made from."""
    return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}")


def run_setup(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        key: value for key, value in os.environ.items() if key not in ("ROS_DISTRO", "LD_LIBRARY_PATH", "PYTHONPATH")
    }
    inherited.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    command = [base_python(), str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 15, 0)])
def test_python_outside_the_range_is_refused(
    setup_script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, ...],
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit):
        setup_script.check_python()
    assert f"python {version[0]}.{version[1]} is outside 3.10 to 3.14" in capsys.readouterr().err


def test_missing_compiler_names_the_debian_package(
    setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup_script.shutil, "which", lambda tool: None if tool == "g++" else f"/usr/bin/{tool}")
    with pytest.raises(SystemExit):
        setup_script.check_system_parts("")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("sudo apt-get install g++")


def test_missing_venv_names_the_debian_package(
    setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup_script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        setup_script.check_system_parts("jazzy")
    assert f"python3.{sys.version_info[1]}-venv" in capsys.readouterr().err


def test_unsupported_ros_distribution_is_refused(tmp_path: Path) -> None:
    done = run_setup("--venv", tmp_path / "venv", ROS_DISTRO="foxy")
    assert done.returncode == 1
    assert "'foxy', supported are humble, jazzy, kilted, lyrical" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_sourced_ros_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    done = run_setup("--venv", tmp_path / "venv", ROS_DISTRO="jazzy")
    assert done.returncode == 1
    assert "cannot import rclpy" in done.stderr


def test_unknown_wheels_are_refused(tmp_path: Path) -> None:
    done = run_setup("--venv", tmp_path / "venv", "--wheels", "rolling")
    assert done.returncode == 1
    assert "there are wheels of jazzy and kilted" in done.stderr


def test_place_that_cannot_be_written_is_named() -> None:
    done = run_setup("--venv", "/proc/venv")
    assert done.returncode == 1
    assert "cannot write /proc/venv" in done.stderr


def test_foreign_folder_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    done = run_setup("--venv", tmp_path)
    assert done.returncode == 1
    assert "is not a virtual environment" in done.stderr
    assert (tmp_path / "thesis.txt").is_file()


def test_an_environment_of_another_checkout_is_not_deleted_through_a_link(tmp_path: Path) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / ".venv"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("home = /usr/bin\n")
    link.symlink_to(theirs)
    done = run_setup("--venv", link)
    assert done.returncode == 1
    assert f"{link} is a link to {theirs}" in done.stderr
    assert (theirs / "pyvenv.cfg").is_file()


def test_without_network_nothing_half_installed_is_taken_for_whole(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    offline = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_CONFIG_FILE": os.devnull,
    }
    for attempt in range(2):
        done = run_setup("--venv", venv, **offline)
        assert done.returncode == 1
        assert "the package index was not reached" in done.stderr
        assert not (venv / "complete.txt").exists()
        assert ("is unfinished or out of date" in done.stdout) == (attempt == 1)


def test_whole_environment_is_left_alone(
    setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(setup_script, "build", lambda *_: pytest.fail("rebuilt"))
    files = setup_script.requirement_files("", "jazzy")
    (tmp_path / "complete.txt").write_text(setup_script.fingerprint(files, ""))
    monkeypatch.setattr(sys, "argv", ["setup.py", "--venv", str(tmp_path)])
    setup_script.main()


def test_every_requirement_is_pinned() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            assert not line or line.startswith("#") or "==" in line, f"{path.name}: {line}"


def test_ci_covers_every_supported_python_and_distribution(setup_script: ModuleType) -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    (_, low), (_, high) = setup_script.SUPPORTED_PYTHON
    assert jobs["library"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(low, high + 1)]
    lanes = jobs["node"]["strategy"]["matrix"]["include"]
    assert {lane["wheels"] for lane in lanes} == set(setup_script.WHEELS)
    assert f"3.{high}" in {lane["python"] for lane in lanes}
    # Kilted's Ubuntu is Jazzy's.
    assert {*jobs["colcon"]["strategy"]["matrix"]["distribution"], "kilted"} == set(setup_script.SUPPORTED_ROS)
