from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import ckd_core
import ckd_core.commands
import sdstrack_ros.commands
from ckd_core.cli import build_app, run, verbs_of
from ckd_core.errors import TrackingError


def test_version() -> None:
    done = CliRunner().invoke(build_app(ckd_core.commands), ["--version"])
    assert done.output == f"sdstrack {ckd_core.__version__}\n"


def test_help_names_every_verb() -> None:
    app = build_app(ckd_core.commands, sdstrack_ros.commands)
    output = CliRunner().invoke(app, ["--help"], terminal_width=200).output
    for name in verbs_of(ckd_core.commands, sdstrack_ros.commands):
        assert name.rsplit(".", 1)[1].replace("_", "-") in output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['sdstrack', '--help']\n"
        "import sdstrack_ros.cli\n"
        "try:\n sdstrack_ros.cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'timm', 'matplotlib', 'rclpy', 'numpy', 'openvino'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    ("version", "good"), [("0.4.0", False), ("0.9.4", False), ("0.12.0", True), ("1.0.0rc1", True)]
)
def test_a_typer_that_is_too_old_for_the_verbs_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str, good: bool
) -> None:
    """apt's on Ubuntu 22.04 and 24.04: its own errors speak of types."""
    monkeypatch.setattr("typer.__version__", version)
    if good:
        build_app(ckd_core.commands)
        return
    with pytest.raises(SystemExit, match=f"error: typer {version} is installed .*; sdstrack needs 0.12 or later: pip"):
        build_app(ckd_core.commands)


def test_an_error_of_the_package_becomes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise TrackingError("box is 0 x 3 px; both sides must be positive")

    with pytest.raises(SystemExit) as ending:
        run(refuse)  # type: ignore[arg-type]
    assert ending.value.code == 1
    assert capsys.readouterr().err == "error: box is 0 x 3 px; both sides must be positive\n"


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("skimage.data", "pip install 'sdstrack_ros[train]'"),
        ("openvino", "pip install 'sdstrack_ros[engines]'"),
        ("rclpy", "pip install 'sdstrack_ros[ros]'"),
        ("vision_msgs.msg", "apt install ros-$ROS_DISTRO-vision-msgs"),
        ("rosbags", 'pip install rosbags (docs/robots.md, "Python packages")'),
        ("backports.zstd", 'pip install rosbags (docs/robots.md, "Python packages")'),
        ("jinja2", "install that one"),
    ],
)
def test_missing_package_becomes_one_line_with_advice(
    capsys: pytest.CaptureFixture[str], module: str, advice: str
) -> None:
    def import_it() -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    with pytest.raises(SystemExit) as ending:
        run(import_it)  # type: ignore[arg-type]
    assert ending.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"'{module}'" in lines[0]
    assert lines[0].endswith(advice)


def test_missing_module_of_our_own_is_not_taken_for_a_package(capsys: pytest.CaptureFixture[str]) -> None:
    def import_it() -> None:
        raise ModuleNotFoundError("No module named 'ckd_core.nowhere'", name="ckd_core.nowhere")

    with pytest.raises(ModuleNotFoundError):
        run(import_it)  # type: ignore[arg-type]
