"""`sdstrack train`: one run as its YAML file says, alone or under torchrun."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer


def command(
    config: Annotated[Path, typer.Argument(help="A file like those in config/train/.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes to it: key.subkey=value, for example run.batch_size=16.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check data, shapes and memory, print the plan, stop.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of this run, where there is one.")
    ] = False,
) -> None:
    """Train a tracker. Under torchrun: torchrun --nproc-per-node N -m ckd_core.cli train CONFIG."""
    import logging
    from contextlib import ExitStack

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ckd_core.locks import folder_lock
    from ckd_core.settings import read_settings
    from ckd_core.text import shown
    from ckd_core.training.build import build_trainer, rehearse
    from ckd_core.training.config import TrainSettings
    from ckd_core.training.state_file import RunStateError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    console = Console()
    settings = read_settings(config, TrainSettings, changes or [])
    trainer = build_trainer(settings)
    with ExitStack() as stack:
        stack.callback(trainer.leave)
        if dry_run:
            table = Table("what", "plan", title=escape(shown(f"Plan of {config}", 200)))
            for name, value in rehearse(trainer).items():
                table.add_row(name, escape(shown(value, 400)))
            if trainer.processes.is_main:
                console.print(table)
            return
        if trainer.processes.is_main:
            stack.enter_context(folder_lock(settings.run.out, "sdstrack train"))
        if trainer.last.exists():
            if not resume:
                raise RunStateError(f"{trainer.last} exists already; go on with --resume, or choose another run.out")
            trainer.resume()
        summary = trainer.run()
    if trainer.processes.is_main:
        best = "" if summary.best is None else f", best {settings.run.best_metric} {summary.best:.4f}"
        console.print(
            f"{summary.steps} steps done{best}; weights in {settings.run.out}", highlight=False, soft_wrap=True
        )
