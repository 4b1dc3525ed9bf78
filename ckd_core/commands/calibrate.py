"""`sdstrack calibrate`: find the thresholds of TRACKING, UNCERTAIN and LOST for a network."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs


def command(
    model: options.Model = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to calibrate; default: the package's own.")] = None,
    sequences: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of sequences with absences (nan boxes); repeatable."),
    ] = None,
    scenes: Annotated[int, typer.Option(min=0, help="Synthetic clips per modality to use as well.")] = 3,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the weights themselves.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print.")] = False,
) -> None:
    """Find the thresholds of TRACKING, UNCERTAIN and LOST, and write them into the weights' metadata.

    Example: sdstrack calibrate --weights mine.safetensors --sequences sequences/
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from ckd_core.deploy.thresholds import calibrate
    from ckd_core.tracking.engines.origin import model_of

    with Progress(transient=True) as progress:
        task = progress.add_task("thresholds", total=None)
        report = calibrate(
            model_of(model, weights),
            weights,
            sequences=sequences or (),
            scenes=scenes,
            out=out,
            write=not dry_run,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console = Console(width=120, highlight=False)
    changes = Table("threshold", "before", "after")
    for name, value in report.before.as_mapping().items():
        changes.add_row(name, f"{value:.2f}", f"{report.after.as_mapping()[name]:.2f}")
    console.print(changes)
    table = Table(
        "footage", "absent", "false TRACKING", "present", "missed", "beside the target", title="before -> after"
    )
    for name, before, after in report.table:
        table.add_row(
            name,
            str(before.absent),
            f"{before.false_share:.1%} -> {after.false_share:.1%}",
            str(before.present),
            f"{before.missed_share:.1%} -> {after.missed_share:.1%}",
            f"{before.beside_share:.1%} -> {after.beside_share:.1%}",
        )
    console.print(table)
    if report.path is not None:
        console.print(f"wrote {report.path} (content SHA-256 {report.sha256})", soft_wrap=True)
