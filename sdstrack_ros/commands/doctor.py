"""`sdstrack doctor`: what is installed here, and what that means."""

from __future__ import annotations

import typer


def command(
    device: str = typer.Option("auto", help="Device that you intend to use: auto, cpu, cuda, cuda:0, ..."),
) -> None:
    """Print what is installed on this machine and what that means; advice and exit status 1 if there are faults."""
    from rich.console import Console
    from rich.table import Table

    from sdstrack_ros.doctor import examine

    findings = examine(device)
    console = Console()
    table = Table("", "subject", "found", "meaning")
    for finding in findings:
        table.add_row(
            "[red]fault" if finding.is_fault else "[green]ok", finding.subject, finding.value, finding.meaning
        )
    console.print(table)
    faults = [finding for finding in findings if finding.is_fault]
    for finding in faults:
        typer.echo(f"{finding.subject}: {finding.advice}")
    if faults:
        raise typer.Exit(1)
