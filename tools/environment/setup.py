"""Make the development environment: a virtual environment with pinned packages and real ROS 2.

    python3 tools/environment/setup.py --venv .venv [--wheels jazzy|kilted]

Standard library only, Python 3.10 to 3.14. Where a ROS 2 distribution is sourced it is used; where none is, its wheels
are installed. The stamp that makes an environment whole is written last, so that half of one is never taken for it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path(__file__).resolve().parent
SUPPORTED_PYTHON = ((3, 10), (3, 14))
SUPPORTED_ROS = ("humble", "jazzy", "kilted", "lyrical")
WHEELS = ("jazzy", "kilted")
# apt's cv_bridge of these distributions is compiled against NumPy 1 and crashes beside NumPy 2.
ROS_WITH_NUMPY_1 = ("humble", "jazzy", "kilted")
STAMP = "complete.txt"
# They name opencv-python, whose files would overwrite those of opencv-python-headless.
NO_DEPS = ROOT / "requirements" / "no-deps.txt"


def fail(message: str) -> NoReturn:
    """End with one line that says what is wrong and what to do."""
    print(f"setup: {message}", file=sys.stderr)
    raise SystemExit(1)


def check_python() -> None:
    """Refuse an interpreter outside the supported range."""
    low, high = SUPPORTED_PYTHON
    if not low <= sys.version_info[:2] <= high:
        fail(
            f"python {sys.version_info[0]}.{sys.version_info[1]} is outside {low[0]}.{low[1]} to {high[0]}.{high[1]}; "
            "name another one: make setup PYTHON=python3.11"
        )


def check_system_parts(ros: str) -> None:
    """Refuse, before anything is downloaded, a machine without what no package index brings."""
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    missing = []
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        missing.append(f"python{minor}-venv")
    if not ros:  # message packages are compiled for the wheels
        missing += [package for tool, package in (("g++", "g++"), ("make", "make")) if shutil.which(tool) is None]
        if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
            missing.append(f"python{minor}-dev")
    if missing:
        fail(f"missing on this machine: sudo apt-get install {' '.join(missing)}")


def sourced_ros() -> str:
    """Name of the sourced ROS 2 distribution, or an empty string."""
    distro = os.environ.get("ROS_DISTRO", "")
    if not distro:
        return ""
    if distro not in SUPPORTED_ROS:
        fail(
            f"the sourced ROS distribution is '{distro}', supported are {', '.join(SUPPORTED_ROS)}; "
            "source one of these, or none (unset ROS_DISTRO) to work with ROS 2 wheels"
        )
    probe = subprocess.run([sys.executable, "-c", "import rclpy"], capture_output=True, text=True, check=False)
    if probe.returncode:
        reason = (probe.stderr.strip().splitlines() or ["no output"])[-1]
        fail(
            f"ROS_DISTRO is '{distro}' but {sys.executable} cannot import rclpy ({reason}); "
            "use the distribution's own python (make setup PYTHON=/usr/bin/python3), or unset ROS_DISTRO"
        )
    return distro


def requirement_files(ros: str, wheels: str) -> list[Path]:
    """The pinned lists that make up one environment."""
    names = ["base", "engines", "training", "dev"] + ([] if ros else [f"ros-{wheels}"])
    return [ROOT / "requirements" / f"{name}.txt" for name in names]


def fingerprint(files: list[Path], ros: str) -> str:
    """What an environment depends on, as one hash: interpreter, place, ROS, pins, hooks, message packages."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version} {ROOT} {ros}".encode())
    interfaces = (path for path in (ROOT / "test" / "interfaces").rglob("*") if path.is_file())
    parts = (*files, NO_DEPS, *ENVIRONMENT.glob("*.py"), ROOT / "setup.py", ROOT / "setup.cfg", *interfaces)
    for path in sorted(parts):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def run(title: str, command: list[str | Path], log: Path, environment: dict[str, str]) -> None:
    """Run one step with its output in the log; on failure show the log's end and advice."""
    begin = time.monotonic()
    print(f"setup: {title} ...", flush=True)
    with log.open("ab") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code == 0:
        print(f"setup: {title}: {time.monotonic() - begin:.0f} s", flush=True)
        return
    text = log.read_text(errors="replace")
    print("\n".join(text.splitlines()[-15:]), file=sys.stderr)
    offline = (
        "Temporary failure in name resolution",
        "NewConnectionError",
        "timed out",
        "(from versions: none)",  # what pip says of a pinned package when no index answers at all
    )
    if any(sign in text for sign in offline):
        fail(f"{title} failed: the package index was not reached; check the network or PIP_INDEX_URL and run it again")
    if "No space left on device" in text:
        fail(f"{title} failed: the disk is full; about 3 GB are needed under {ROOT}")
    fail(f"{title} failed (exit status {code}); the whole log is {log}")


def child_environment(venv: Path) -> dict[str, str]:
    """The environment of a child process, cleaned of what an outer ROS-wheels environment sets for itself."""
    environment = dict(os.environ)
    if environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None):
        environment.pop("LD_LIBRARY_PATH", None)
    environment.pop("PYTHONHOME", None)
    environment["VIRTUAL_ENV"] = str(venv)
    environment["PATH"] = f"{venv / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return environment


def build(venv: Path, ros: str, wheels: str, stamp_text: str) -> None:
    """Build the environment anew; what stands half-built in its place is removed first."""
    if venv.exists():
        if not (venv / "pyvenv.cfg").is_file() and any(venv.iterdir()):
            fail(f"{venv} exists and is not a virtual environment; move it away")
        print(f"setup: {venv.name} is unfinished or out of date; building it anew", flush=True)
        shutil.rmtree(venv)
    try:
        venv.mkdir(parents=True)
    except OSError as error:
        fail(f"cannot write {venv} ({error.strerror}); clone to a place that you may write to")
    log = venv / "setup.log"
    environment = child_environment(venv)
    python = venv / "bin" / "python"
    system = ["--system-site-packages"] if ros else []
    run("virtual environment", [sys.executable, "-m", "venv", *system, venv], log, environment)
    site = next(venv.glob("lib/python3.*/site-packages"))
    shutil.copy(ENVIRONMENT / "_cpu_torchvision.py", site)
    (site / "cpu_torchvision.pth").write_text("import _cpu_torchvision\n")
    files = requirement_files(ros, wheels)
    options = [argument for path in files for argument in ("-r", str(path))]
    if ros in ROS_WITH_NUMPY_1:
        options = numpy_1_options(files, venv)
    run(f"packages ({ros or wheels + ' wheels'})", [python, "-m", "pip", "install", *options], log, environment)
    alone: list[str | Path] = [python, "-m", "pip", "install", "--no-deps", "-r", NO_DEPS]
    run("packages that would bring a second OpenCV", alone, log, environment)
    if not ros:
        run("ROS 2 message packages", [python, ENVIRONMENT / "build_interfaces.py", "--venv", venv], log, environment)
    project: list[str | Path] = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", ROOT]
    run("this package", project, log, environment)
    temporary = venv / f"{STAMP}.part"
    temporary.write_text(stamp_text)
    temporary.replace(venv / STAMP)


def numpy_1_options(files: list[Path], venv: Path) -> list[str]:
    """Pip options for a sourced ROS whose cv_bridge needs NumPy 1: the same pins, NumPy and OpenCV to match."""
    options: list[str] = []
    for path in files:
        kept = [line for line in path.read_text().splitlines() if not line.startswith(("numpy==", "opencv-"))]
        adapted = venv / path.name
        adapted.write_text("\n".join(kept) + "\n")
        options += ["-r", str(adapted)]
    return [*options, "numpy<2", "opencv-python-headless<4.12"]


def main() -> None:
    """Check, and build if the environment is not whole."""
    parser = argparse.ArgumentParser(description="Make the development environment.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument(
        "--wheels", default="jazzy", help="which ROS 2 wheels, where no ROS 2 is sourced: jazzy or kilted"
    )
    options = parser.parse_args()
    venv: Path = options.venv.resolve()
    if options.wheels not in WHEELS:
        fail(f"ROS_WHEELS is '{options.wheels}'; there are wheels of {' and '.join(WHEELS)}")
    check_python()
    ros = sourced_ros()
    stamp_text = fingerprint(requirement_files(ros, options.wheels), ros)
    stamp = venv / STAMP
    if stamp.is_file() and stamp.read_text() == stamp_text:
        return
    if options.venv.is_symlink():
        fail(f"{options.venv} is a link to {venv}, not what this checkout needs; remove the link or set up there")
    check_system_parts(ros)
    build(venv, ros, options.wheels, stamp_text)


if __name__ == "__main__":
    main()
