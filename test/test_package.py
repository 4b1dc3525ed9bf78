from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import ckd_core
from ckd_core.cli import EXTRA_OF, OLDEST_TYPER
from testkit.reliability.lengths import LONG

ROOT = Path(__file__).parents[1]
VENV = Path(sys.prefix)
PACKAGES = ("ckd_core", "sdstrack_ros")
# Imported by one verb each, which says `pip install NAME` where it is missing; no extra brings them.
SINGLE_VERBS = {"ray", "rerun", "trax", "wandb"}
STANDARD_MODULES = sys.stdlib_module_names | {"compression"}  # compression: since Python 3.14


def tracked_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_versions_agree() -> None:
    manifest = ET.parse(ROOT / "package.xml").getroot()
    assert manifest.findtext("version") == ckd_core.__version__
    assert f'version="{ckd_core.__version__}"' in (ROOT / "setup.py").read_text()
    assert ckd_core.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {ckd_core.__version__}\n" in (ROOT / "CITATION.cff").read_text()


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


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, as a fresh clone would have it."""
    folder = tmp_path_factory.mktemp("workspace") / "src" / "sdstrack_ros"
    for name in tracked_files():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel built from the sources.

    Attributes:
        files: Names inside it.
        requires: Lower-case names that pip installs, by extra; "" for those of all.
        scripts: What each command calls.
        version: Of the package.
    """

    files: frozenset[str]
    requires: dict[str, set[str]]
    scripts: dict[str, str]
    version: str


def distribution(requirement: str) -> str:
    """Lower-case name of a requirement such as `numpy>=1.21 ; python_version >= "3.11"`."""
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower()


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """What `pip install .` installs."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        entries = archive.read(f"{info}/entry_points.txt").decode()
    requires: dict[str, set[str]] = {"": set()}
    for line in metadata.get_all("Requires-Dist") or []:
        extra = re.search(r"extra == .(\w+)", line)
        requires.setdefault(extra[1] if extra else "", set()).add(distribution(line))
    scripts = dict(re.findall(r"^(\w+) = (\S+)$", entries, re.MULTILINE))
    return Wheel(frozenset(names), requires, scripts, metadata["Version"])


def test_wheel_holds_the_packages_and_what_they_read(wheel: Wheel) -> None:
    assert wheel.version == ckd_core.__version__
    inside = {name for name in tracked_files() if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    assert {name for name in inside if name.endswith(".safetensors")}
    assert {name for name in inside if (ROOT / name).is_file()} - wheel.files == set()
    assert {name.partition("/")[0] for name in wheel.files} == {
        *PACKAGES,
        f"sdstrack_ros-{wheel.version}.dist-info",
        f"sdstrack_ros-{wheel.version}.data",
    }
    shared = {name.partition("/data/share/sdstrack_ros/")[2] for name in wheel.files}
    for folder, pattern in (("launch", "*.launch.py"), ("config", "*.yaml")):
        assert {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern)} <= shared


def test_commands_of_the_wheel_lead_to_functions(wheel: Wheel) -> None:
    assert set(wheel.scripts) == {"sdstrack", "tracker_node"}
    for target in wheel.scripts.values():
        module, _, function = target.partition(":")
        source = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        assert function in {node.name for node in source.body if isinstance(node, ast.FunctionDef)}


def imports_of(path: Path) -> dict[str, bool]:
    """Names of the packages from elsewhere that a file imports; true: at its top, false: only inside a function."""
    tree = ast.parse(path.read_text())
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module]
        else:
            continue
        for name in {module.partition(".")[0] for module in modules} - STANDARD_MODULES - {*PACKAGES}:
            found[name] = found.get(name, False) or node in tree.body
    return found


def test_requirements_are_what_the_code_imports(wheel: Wheel) -> None:
    manifest = {node.text for node in ET.parse(ROOT / "package.xml").getroot() if node.tag.endswith("depend")}
    known = importlib.metadata.packages_distributions()
    imported = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name, at_top in imports_of(path).items():
                distributions = {found.lower() for found in known.get(name, [name])}
                imported |= distributions
                if distributions & wheel.requires[""] or name in manifest or name == "builtin_interfaces":
                    continue
                assert not at_top, f"{path}: {name} is an extra; import it where it is used"
                if name in SINGLE_VERBS:
                    assert "pip install" in path.read_text(), f"{path}: say how to install {name}"
                else:
                    assert distributions & wheel.requires[EXTRA_OF[name]], f"{path}: no extra brings {name}"
    by_name = set(
        re.findall(r"import_module\(\"(\w+)\"\)", (ROOT / "sdstrack_ros/messages/event_window.py").read_text())
    )
    assert wheel.requires[""] - imported - by_name == set(), "required and never imported"


def test_extras_of_the_advice_are_those_of_the_wheel(wheel: Wheel) -> None:
    known = importlib.metadata.packages_distributions()
    for module, extra in EXTRA_OF.items():
        assert {name.lower() for name in known[module]} & wheel.requires[extra], module


def pinned(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {distribution(line) for line in lines if line and not line.startswith("#")}


def test_pins_and_requirements_name_the_same_packages(wheel: Wheel) -> None:
    assert set(wheel.requires) == {"", "engines", "train", "ros", "dev"}
    assert pinned("base") == wheel.requires[""]
    assert pinned("engines") == wheel.requires["engines"]
    assert pinned("training") == wheel.requires["train"]
    assert wheel.requires["ros"] <= pinned("ros-jazzy")
    assert wheel.requires["dev"] <= pinned("dev")


def test_hooks_before_a_commit_have_the_versions_of_the_environment() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = {entry["repo"].rpartition("/")[2]: entry.get("rev", "").lstrip("v") for entry in hooks}
    pins = (ROOT / "requirements" / "dev.txt").read_text()
    for repository, package in (("ruff-pre-commit", "ruff"), ("codespell", "codespell")):
        assert f"\n{package}=={revisions[repository]}\n" in pins


def test_a_robot_installs_what_apt_does_not_bring(wheel: Wheel) -> None:
    """Beside a distribution pip must not replace apt's NumPy and OpenCV, so the documents list the other packages."""
    from_apt = {"numpy", "opencv-python-headless", "pyyaml", "matplotlib", "jinja2"}
    manifest = (ROOT / "package.xml").read_text()
    for key in ("numpy", "opencv", "yaml", "matplotlib", "jinja2"):
        assert f"<exec_depend>python3-{key}</exec_depend>" in manifest
    of_rosbags = {"backports.zstd"}  # pip brings it with rosbags
    wanted = wheel.requires[""] - from_apt - of_rosbags
    for name in ("README.md", "Dockerfile"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if "pip install" in line]
        words = [word.strip('`"') for line in lines for word in line.split()]
        assert wanted <= {distribution(word) for word in words if word[:1].isalpha()}, name
        # pip would take apt's, which are older on Humble and Jazzy, for good enough.
        assert {f"typer>={'.'.join(map(str, OLDEST_TYPER))}", "rich>=13"} <= set(words), name


WITHOUT_EXTRAS = """
import importlib.machinery, pkgutil

finder = importlib.machinery.PathFinder
real = finder.find_spec
finder.find_spec = lambda name, *rest: None if name.partition(".")[0] in ABSENT else real(name, *rest)
count = 0
for package in PACKAGES:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(getattr(root, "__path__", []), f"{package}."):
        importlib.import_module(module.name)
        count += 1
print(count)
"""


def test_library_and_recordings_need_no_extra_and_no_ros() -> None:
    absent = {*EXTRA_OF, *SINGLE_VERBS, "rclpy", "sensor_msgs", "std_msgs", "vision_msgs", "geometry_msgs"}
    packages = ("ckd_core", "sdstrack_ros.commands", "sdstrack_ros.bags", "sdstrack_ros.demo", "sdstrack_ros.doctor")
    code = f"ABSENT = {absent!r}\nPACKAGES = {packages!r}\n{WITHOUT_EXTRAS}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.ros
def test_colcon_builds_and_installs(sources: Path) -> None:
    workspace = sources.parents[1]
    environment = os.environ | {
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "COLCON_HOME": str(workspace / "home"),
    }
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [VENV / "bin" / "colcon", "build"], cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = workspace / "install" / "sdstrack_ros"
    share = prefix / "share" / "sdstrack_ros"
    assert [path.name for path in (workspace / "install").iterdir() if path.is_dir()] == ["sdstrack_ros"]
    for script in ("tracker_node", "sdstrack"):
        assert os.access(prefix / "lib" / "sdstrack_ros" / script, os.X_OK)
    assert (prefix / "share/ament_index/resource_index/packages/sdstrack_ros").is_file()
    assert (share / "package.xml").is_file()
    for folder, pattern in (
        ("launch", "*.launch.py"),
        ("config", "*.yaml"),
        ("config", "*.xml"),
        ("config", "*.rviz"),
        ("config", "*.csv"),
    ):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern)}
        assert wanted
        assert all((share / path).is_file() for path in wanted)
    # The python that is first on PATH where `ros2 run` or `ros2 launch` starts the script, not that of colcon.
    active = workspace / "active" / "python3"
    active.parent.mkdir()
    active.write_text('#!/bin/sh\necho "run by $0: $1"\n')
    active.chmod(0o755)
    for script in ("tracker_node", "sdstrack"):
        path = prefix / "lib/sdstrack_ros" / script
        said = subprocess.check_output([path], env={"PATH": f"{active.parent}{os.pathsep}/usr/bin:/bin"}, text=True)
        assert said == f"run by {active}: {path}\n"
    packages = next(prefix.glob("lib/python3.*/site-packages"))
    for package in ("ckd_core", "sdstrack_ros"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert all((packages / path).is_file() for path in wanted)
    weights = {path.name for path in (ROOT / "ckd_core/weights").glob("*.safetensors")}
    assert weights == {path.name for path in (packages / "ckd_core/weights").glob("*.safetensors")}
    version = subprocess.run(
        [prefix / "lib/sdstrack_ros/sdstrack", "--version"],
        env=environment | {"PYTHONPATH": str(packages)},
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert version.stdout.strip() == f"sdstrack {ckd_core.__version__}", version.stderr


def test_every_cited_section_on_the_published_trackers_exists() -> None:
    page = (ROOT / "docs" / "trackers.md").read_text()
    headings = set(re.findall(r"^#+ (.+)$", page, re.MULTILINE))
    cited = set()
    for name in tracked_files():
        if not name.endswith((".py", ".yaml", ".md")) or not (ROOT / name).is_file() or name == "test/test_package.py":
            continue
        text = (ROOT / name).read_text()
        assert "TRACKERS.md" not in text, name
        for heading in re.findall(r"docs/trackers\.md \"([^\"]+)\"", text):
            section = re.sub(r"\s+", " ", heading)
            assert section in headings, f"{name} cites '{section}'; docs/trackers.md has {sorted(headings)}"
            cited.add(section)
    assert len(cited) > 10


@pytest.mark.skipif(not LONG, reason="needs minutes and the package index; make test-all runs it")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", ["", "[train]"])
def test_pip_install_in_an_empty_environment_gives_working_commands(sources: Path, tmp_path: Path, extra: str) -> None:
    venv = tmp_path / "venv"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "_ROS", "LD_"))}

    def succeed(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    succeed(sys.executable, "-m", "venv", venv)
    # The tested torch, which an index of CPU builds may hold too.
    torch = next(
        line for line in (ROOT / "requirements/base.txt").read_text().splitlines() if line.startswith("torch=")
    )
    succeed(venv / "bin/pip", "install", torch, f"{sources}{extra}")
    folder = tmp_path / "scene"
    for name in ("visible", "infrared"):
        (folder / name).mkdir(parents=True)
        for frame in range(3):
            image = np.full((120, 160, 3), 60, np.uint8)
            image[40 + frame : 70 + frame, 60:90] = 200
            assert cv2.imwrite(str(folder / name / f"{frame:04}.png"), image)
    (folder / "groundtruth.txt").write_text("".join(f"60,{40 + frame},30,30\n" for frame in range(3)))
    sdstrack = venv / "bin" / "sdstrack"
    succeed(sdstrack, "run", folder, "--out", tmp_path / "run")
    assert len((tmp_path / "run" / "boxes.csv").read_text().splitlines()) == 4
    succeed(sdstrack, "benchmark", "--dataset", "folder", "--root", folder, "--out", tmp_path / "benchmark")
    succeed(sdstrack, "score", tmp_path / "benchmark", "--benchmark", "folder", "--truth", folder)
    for verb in ("convert", "evaluate", "train"):
        succeed(sdstrack, verb, "--help")
    if extra:
        succeed(venv / "bin/python", "-c", "import skimage, sklearn, tensorboard")
