"""`sdstrack benchmark`: run a tracker over a dataset and score it by the benchmark's own rule."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands._options import with_options
from ckd_core.commands._say import say
from ckd_core.evaluation.running.options import BenchmarkOptions  # noqa: TC001  # typer reads the annotations


@with_options(leave_out=("missing",))
def command(
    options: BenchmarkOptions,
    table: Annotated[
        str | None,
        typer.Option(
            help="boxes: where overlap is lost; states: whether they told the truth; modalities: both cameras, colour "
            "alone, auxiliary alone; one-step: the next frame after a true box."
        ),
    ] = None,
    nanotrack: Annotated[Path | None, typer.Option(help="With --table: folder of NanoTrack's ONNX files.")] = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="With --table modalities: YAML file with other groups to average than validation and test."),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write report.html, JSON and CSV.")] = True,
) -> None:
    """Track every sequence of a dataset and score the result.

    Example: sdstrack benchmark --dataset folder --root sequences/ --out runs/m256
    """
    from ckd_core.evaluation.benchmark import open_plan, print_progress, run_and_report, run_table
    from ckd_core.evaluation.running.manifest import require_folder
    from ckd_core.locks import folder_lock

    plan = open_plan(options, say)
    require_folder(plan.out)
    with folder_lock(plan.out, "sdstrack benchmark"), print_progress() as progress:
        if table is None:
            written = run_and_report(plan, report, progress)
        else:
            written = run_table(plan, table, nanotrack, groups, progress)
    for path in written:
        say(f"wrote {path}")
