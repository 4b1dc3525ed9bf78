from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import ckd_core

ROOT = Path(__file__).parents[1]
VENV = Path(sys.prefix)


def tracked_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_versions_agree() -> None:
    manifest = ET.parse(ROOT / "package.xml").getroot()
    assert manifest.findtext("version") == ckd_core.__version__
    assert f'version="{ckd_core.__version__}"' in (ROOT / "setup.py").read_text()
    assert ckd_core.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_manifest_names_what_the_code_imports() -> None:
    depends = {node.text for node in ET.parse(ROOT / "package.xml").getroot() if node.tag.endswith("depend")}
    imported = set()
    for path in (ROOT / "sdstrack_ros").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    ros_packages = {
        name
        for name in imported
        if name.endswith("_msgs") or name in {"rclpy", "std_srvs", "message_filters", "cv_bridge", "tf2_ros"}
    }
    assert ros_packages
    assert ros_packages - depends == {"builtin_interfaces"} & ros_packages


def test_core_knows_no_ros() -> None:
    forbidden = re.compile(
        r"^\s*(?:from|import) (rclpy|cv_bridge|message_filters|launch|launch_ros|\w+_msgs|sdstrack_ros)\b", re.MULTILINE
    )
    for path in (ROOT / "ckd_core").rglob("*.py"):
        assert not forbidden.search(path.read_text()), path


@pytest.mark.ros
def test_colcon_builds_and_installs(tmp_path: Path) -> None:
    source = tmp_path / "src" / "sdstrack_ros"
    for name in tracked_files():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    environment = os.environ | {
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "COLCON_HOME": str(tmp_path / "home"),
    }
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [VENV / "bin" / "colcon", "build"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = tmp_path / "install" / "sdstrack_ros"
    share = prefix / "share" / "sdstrack_ros"
    assert [path.name for path in (tmp_path / "install").iterdir() if path.is_dir()] == ["sdstrack_ros"]
    for script in ("tracker_node", "sdstrack"):
        assert os.access(prefix / "lib" / "sdstrack_ros" / script, os.X_OK)
    assert (prefix / "share/ament_index/resource_index/packages/sdstrack_ros").is_file()
    assert (share / "package.xml").is_file()
    for folder, pattern in (("launch", "*.launch.py"), ("config", "*.yaml"), ("config", "*.xml"), ("config", "*.rviz")):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern)}
        assert wanted
        assert all((share / path).is_file() for path in wanted)
    packages = next(prefix.glob("lib/python3.*/site-packages"))
    for package in ("ckd_core", "sdstrack_ros"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert all((packages / path).is_file() for path in wanted)
    weights = {path.name for path in (ROOT / "ckd_core/weights").glob("*.safetensors")}
    assert weights == {path.name for path in (packages / "ckd_core/weights").glob("*.safetensors")}
    version = subprocess.run(
        [prefix / "lib/sdstrack_ros/sdstrack", "--version"],
        env=environment | {"PYTHONPATH": str(packages)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert version.stdout.strip() == f"sdstrack {ckd_core.__version__}", version.stderr
