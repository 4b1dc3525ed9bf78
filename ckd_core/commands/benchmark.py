"""`sdstrack benchmark`: run a tracker over a dataset and score it by the benchmark's own rule."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001 - typer reads annotations at run time


def command(
    root: options.Root,
    dataset: options.Dataset,
    out: Annotated[Path, typer.Option(help="Folder for results, manifest and report; an unfinished run goes on.")],
    model: options.Model = "sdstrack_s128",
    weights: options.Weights = None,
    split: options.Split = None,
    sequences: options.Sequences = None,
    engine: options.Engine = "torch/fp32",
    device: options.Devices = "auto",
    workers: options.Workers = 1,
    threads: options.Threads = 0,
    pool: Annotated[str, typer.Option(help="local (processes) or ray (also several machines).")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    published: Annotated[bool, typer.Option(help="The published tracker: no states, no search growth.")] = False,
    condition: Annotated[str, typer.Option(help="What the tracker is shown; see `sdstrack robustness`.")] = "full",
    seed: options.Seed = 0,
    table: Annotated[str | None, typer.Option(help="modalities: both cameras, colour alone, auxiliary alone.")] = None,
    nanotrack: Annotated[Path | None, typer.Option(help="With --table: folder of NanoTrack's ONNX files.")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="With --table: YAML file with groups to average, see config/benchmarks.")
    ] = None,
    skip_broken: options.SkipBroken = False,
    cut: Annotated[bool, typer.Option(help="Ignore surplus images or annotation rows at a sequence's end.")] = False,
    restart: options.Restart = False,
    report: Annotated[bool, typer.Option(help="Write report.html, JSON and CSV.")] = True,
) -> None:
    """Track every sequence of a dataset and score the result.

    Example: sdstrack benchmark --dataset folder --root sequences/ --out runs/s128
    """
    from ckd_core.evaluation.benchmark import open_plan, print_progress, run_and_report, run_modalities
    from ckd_core.evaluation.running.conditions import parse_condition

    plan = open_plan(
        dataset=dataset,
        root=root,
        out=out,
        model=model,
        weights=weights,
        split=split,
        sequences=sequences,
        engine=engine,
        device=device,
        published=published,
        condition=parse_condition(condition, seed),
        workers=workers,
        threads=threads,
        pool=pool,
        ray_address=ray_address,
        restart=restart,
        skip_broken=skip_broken,
        cut=cut,
        echo=typer.echo,
    )
    with print_progress() as progress:
        if table is None:
            written = run_and_report(plan, report, progress)
        else:
            written = run_modalities(plan, table, nanotrack, groups, progress)
    for path in written:
        typer.echo(f"wrote {path}")
