"""`sdstrack trials`: footage that tries the states, for `sdstrack benchmark --table states`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    out: Annotated[Path, typer.Argument(help="New folder for the sequences.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the open sequences; those for validation are changed and written as well."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option(help="Write instead the sequences of --root with smoke in front of the colour camera.")
    ] = False,
) -> None:
    """Write sequences in which targets vanish, are covered, return elsewhere or move fast, beside lookalikes.

    Example: sdstrack trials out/trials
    and then: sdstrack benchmark -d folder --root out/trials --table states --out out/states
    """
    from ckd_core.data.smoke_trials import smoke_trials
    from ckd_core.data.trials import trials, validation_folders, write_trials
    from ckd_core.locks import new_folder_lock

    if smoke and root is None:
        raise typer.BadParameter("--smoke needs --root: the folder of the open sequences that it is drawn over")
    folders = [] if root is None else validation_folders(root)
    with new_folder_lock(out, "sdstrack trials"):
        written = write_trials(out, smoke_trials(folders) if smoke else trials(folders), say)
    say(f"{len(written)} sequences in {out}")
