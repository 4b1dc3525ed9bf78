"""`sdstrack ship`: the chosen weights of a run become those that come with the package."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    config: Annotated[Path, typer.Argument(help="The file that the run was trained with.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes to it, as for sdstrack train; for example run.out=runs/a.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write here; default: the package's file for this network.")] = None,
) -> None:
    """Write what `sdstrack choose` chose in float16, with its recipe and its data's licences in the metadata.

    The thresholds of the confidence states are those of the recipe, else the defaults: those of the file belong to
    the earlier weights.
    """
    from ckd_core.settings import read_settings
    from ckd_core.training.choice import ship
    from ckd_core.training.config import TrainSettings

    settings = read_settings(config, TrainSettings, changes or [])
    path, metadata = ship(settings, config.stem, out)
    say(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB, content SHA-256 {metadata.sha256})\n{metadata.source}")
