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
) -> None:
    """Write sequences in which targets vanish, are covered, return elsewhere or move fast, beside lookalikes.

    Example: sdstrack trials out/trials
    and then: sdstrack benchmark -d folder --root out/trials --table states --out out/states
    """
    from ckd_core.data.trials import write_trials
    from ckd_core.locks import new_folder_lock

    with new_folder_lock(out, "sdstrack trials"):
        written = write_trials(out, root, say)
    say(f"{len(written)} sequences in {out}")
