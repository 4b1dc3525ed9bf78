"""`sdstrack doctor`: what is here and what it means."""

from __future__ import annotations

import typer


def command(device: str = typer.Option("auto", help="The device you mean to use: auto, cpu, cuda, cuda:0 ...")) -> None:
    """Print what was found on this machine and what it means; exit status 1 and advice for each fault."""
    from rich.console import Console
    from rich.table import Table

    from sdstrack_ros.doctor import examine

    findings = examine(device)
    console = Console()
    table = Table("", "subject", "found", "meaning")
    for finding in findings:
        table.add_row(
            "[red]fault" if finding.is_fault else "[green]ok", finding.subject, finding.found, finding.meaning
        )
    console.print(table)
    faults = [finding for finding in findings if finding.is_fault]
    for finding in faults:
        typer.echo(f"{finding.subject}: {finding.advice}")
    if faults:
        raise typer.Exit(1)
