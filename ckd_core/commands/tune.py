"""`sdstrack tune`: find the fastest engine of this machine, for `auto`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    model: options.Model = None,
    weights: options.Weights = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads, as run and the node will be given; 0: all usable cores.")
    ] = 0,
    seconds: Annotated[
        float, typer.Option(min=1.0, help="How long to time; starting the engines comes on top.")
    ] = 20.0,
    sequences: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of sequences to compare boxes on; repeatable. Default: synthetic clips."),
    ] = None,
    int8: Annotated[
        bool, typer.Option(help="Also make an int8 export for OpenVINO, where nncf is installed; up to a minute more.")
    ] = True,
) -> None:
    """Measure every engine on this machine and keep the fastest whose boxes are right; `auto` uses it from then on.

    Example: sdstrack tune
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ckd_core.deploy.tune import tune
    from ckd_core.locks import folder_lock
    from ckd_core.tracking.engines.origin import model_of
    from ckd_core.tracking.engines.tuned import cache_folder

    model = model_of(model, weights)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # Held while it times as well: a second one would spoil what this one measures.
    with folder_lock(cache_folder(), "sdstrack tune"), Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        report = tune(
            model, weights, device, threads, seconds, sequences or (), int8,
            lambda what, share: bar.update(task, completed=share, description=what),
        )  # fmt: skip
    choice = report.choice
    say(f"{model} on {choice.key.processor}, {choice.key.cores} cores:")
    for name, row in sorted(choice.measured.items(), key=lambda item: item[1].median_ms):
        marked = "  <- auto" if name == choice.engine else ""
        times = f"{row.median_ms:8.2f} ms (quartiles {row.spread_ms:.2f} apart)"
        say(f"  {name:<14} {times}, median IoU with torch/fp32 {row.agreement:.4f}{marked}")
    for name, reason in choice.refused.items():
        say(f"  {name:<14} no choice: {reason}")
    kind = "real" if report.real else "synthetic"
    say(f"auto was {report.before}, is {choice.engine}; boxes compared on {kind} crops; wrote {report.path}")
