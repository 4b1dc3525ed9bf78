"""The command line without ROS: `python -m ckd_core.cli VERB`. A verb is a file in `ckd_core/commands`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

import typer

import ckd_core
import ckd_core.commands
from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from types import ModuleType


def verbs_of(*packages: ModuleType) -> list[str]:
    """Dotted names of all verb modules of the given packages."""
    return [
        f"{package.__name__}.{module.name}"
        for package in packages
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    ]


def build_app(*packages: ModuleType) -> typer.Typer:
    """One typer application over the verb modules of `packages`; each has a function `command`."""
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
    """Run the application; what the package refuses on purpose becomes one line and exit status 1."""
    try:
        app()
    except TrackingError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def main() -> None:
    """Entry point of the verbs that need no ROS."""
    run(build_app(ckd_core.commands))


if __name__ == "__main__":
    main()
