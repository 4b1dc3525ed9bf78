"""`sdstrack doctor`: what is installed here, what that means, and what is wrong with cameras or a recording."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated, Literal

import typer

from ckd_core.commands._say import say


def command(
    device: Annotated[str, typer.Option(help="Device that you intend to use: auto, cpu, cuda, cuda:0, ...")] = "auto",
    bag: Annotated[Path | None, typer.Option(help="Examine this recording instead of the machine.")] = None,
    rgb: Annotated[str, typer.Option(help="Listen to this colour topic instead; with --bag, its colour topic.")] = "",
    aux: Annotated[str, typer.Option(help="The same for the auxiliary camera's topic.")] = "",
    modality: Annotated[Literal["depth", "thermal", "event"], typer.Option(help="Of the auxiliary camera.")] = "depth",
    seconds: Annotated[float, typer.Option(min=0.1, max=600.0, help="How long to listen to topics.")] = 3.0,
) -> None:
    """Print what is here and what that means; advice and exit status 1 if there are faults."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ckd_core.frame import Modality
    from sdstrack_ros.doctor import examine, examine_bag, examine_topics

    if bag is not None:
        findings = list(examine_bag(bag, Modality(modality), rgb, aux))
    elif rgb or aux:
        findings = list(examine_topics(rgb, aux, Modality(modality), seconds))
    else:
        findings = examine(device)
    console = Console()
    table = Table("", "subject", "found", "meaning")
    for finding in findings:
        mark = "[red]fault" if finding.is_fault else "[green]ok"
        table.add_row(mark, *map(escape, (finding.subject, finding.value, finding.meaning)))
    console.print(table)
    faults = [finding for finding in findings if finding.is_fault]
    for finding in faults:
        say(f"{finding.subject}: {finding.advice}")
    if faults:
        raise typer.Exit(1)
