"""The command line without ROS: `python -m ckd_core.cli VERB`. A verb is a file in `ckd_core/commands`."""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

import typer

import ckd_core
import ckd_core.commands
from ckd_core.errors import TrackingError
from ckd_core.text import MAX_LINE, has_controls, is_unicode, printable, shown

if TYPE_CHECKING:
    from types import ModuleType

# Which extra of the package brings a module that only some verbs import.
EXTRA_OF = {
    "tensorboard": "train", "skimage": "train", "sklearn": "train", "timm": "train",
    "onnx": "engines", "onnxscript": "engines", "onnxruntime": "engines", "openvino": "engines", "nncf": "engines",
}  # fmt: skip
# What the verbs import of the extra [ros].
ROS_WHEELS = ("rclpy", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs")
# Modules that a robot lacks when only rosdep has installed, and the package that brings them.
WITHOUT_KEY = {"backports": "rosbags", "rosbags": "rosbags", "safetensors": "safetensors"}
# Before it, options of type `X | None` are unknown. apt's is older on Ubuntu 22.04 and 24.04.
OLDEST_TYPER = (0, 12)


def check_typer() -> None:
    """End with one line where typer is too old for the verbs, whose errors would not say so."""
    numbers = tuple(int(part) for part in typer.__version__.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_TYPER:
        oldest = ".".join(map(str, OLDEST_TYPER))
        sys.exit(
            f"error: typer {typer.__version__} is installed ({typer.__file__}); sdstrack needs {oldest} or later: "
            f'pip install "typer>={oldest}" rich, in a virtual environment (docs/robots.md, "Python packages")'
        )


def verbs_of(*packages: ModuleType) -> list[str]:
    """List the dotted names of all verb modules in the packages."""
    return [
        f"{package.__name__}.{module.name}"
        for package in packages
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    ]


def build_app(*packages: ModuleType) -> typer.Typer:
    """Build one typer application from the verb modules of `packages`, each of which has a function `command`."""
    check_typer()
    app = typer.Typer(
        name="sdstrack",
        help="Track one object through a colour camera plus depth, thermal or event camera.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    def show_version(value: bool) -> None:
        if value:
            typer.echo(f"sdstrack {ckd_core.__version__}")
            raise typer.Exit

    @app.callback()
    def _root(
        version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Print version."),
    ) -> None:
        del version

    for name in sorted(verbs_of(*packages), key=lambda dotted: dotted.rsplit(".", 1)[1]):
        verb: Any = importlib.import_module(name)
        app.command(name=name.rsplit(".", 1)[1].replace("_", "-"))(verb.command)
    return app


def run(app: typer.Typer) -> None:
    """Run the application; what it refuses, the system refuses, or is not installed becomes a line and status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a locale that is not UTF-8 a sign that it lacks is no error
            stream.reconfigure(errors="backslashreplace")
    for word in sys.argv[1:]:
        if not is_unicode(word):
            typer.echo(f"error: {shown(word)} is not UTF-8, as every name here has to be; rename it", err=True)
            sys.exit(1)
        if has_controls(word):  # a name with a line break would forge a line of the output
            typer.echo(f"error: {shown(word)} has control characters, as no name here may; rename it", err=True)
            sys.exit(1)
    try:
        app()
    except TrackingError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written, a file where a folder was expected
        place = f"{shown(error.filename, MAX_LINE)}: " if error.filename is not None else ""
        typer.echo(f"error: {place}{error.strerror or shown(error)}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        advice = how_to_install(error.name or "")
        if not advice:
            raise
        typer.echo(f"error: this needs the Python module '{error.name}', which is not installed; {advice}", err=True)
        sys.exit(1)


def how_to_install(module: str) -> str:
    """Advice for a module that is not installed; empty for one of this package, whose absence is a fault of ours."""
    top = module.partition(".")[0]
    if top in ("", "ckd_core", "sdstrack_ros"):
        return ""
    if top in EXTRA_OF:
        return f"pip install 'sdstrack_ros[{EXTRA_OF[top]}]'"
    if top in ROS_WHEELS:
        return "source a ROS 2 distribution, or without one: pip install 'sdstrack_ros[ros]'"
    if top.endswith("_msgs"):  # there are no wheels of the others
        return f"source a ROS 2 distribution that has it: apt install ros-$ROS_DISTRO-{top.replace('_', '-')}"
    if top in WITHOUT_KEY:
        return f'pip install {WITHOUT_KEY[top]} (docs/robots.md, "Python packages")'
    return "reinstall sdstrack_ros with its requirements, or install that one"


def main() -> None:
    """Run the verbs that need no ROS."""
    run(build_app(ckd_core.commands))


if __name__ == "__main__":
    main()
