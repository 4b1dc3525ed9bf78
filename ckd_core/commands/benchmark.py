"""`sdstrack benchmark`: run a tracker over a dataset and score it by the benchmark's own rule."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer


def command(
    root: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="lasher, rgbt234, gtot, depthtrack, folder, ...")],
    out: Annotated[Path, typer.Option(help="Folder for results, manifest and report; an unfinished run goes on.")],
    model: Annotated[str, typer.Option(help="Name of the network.")] = "sdstrack_s128",
    weights: Annotated[Path | None, typer.Option(help="Weights; default: those that come with the package.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset; default: test.")] = None,
    sequences: Annotated[str | None, typer.Option(help="Only these sequences, separated by commas.")] = None,
    engine: Annotated[str, typer.Option(help="How the network runs, e.g. torch/fp32, openvino/bf16.")] = "torch/fp32",
    device: Annotated[str, typer.Option(help="Devices for the workers in turn, e.g. cuda:0,cuda:1.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads a worker; 0: cores / workers.")] = 0,
    pool: Annotated[str, typer.Option(help="local (processes) or ray (also several machines).")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    published: Annotated[bool, typer.Option(help="The published tracker: no states, no search growth.")] = False,
    condition: Annotated[str, typer.Option(help="What the tracker is shown; see `sdstrack robustness`.")] = "full",
    seed: Annotated[int, typer.Option(min=0, help="For what is random in a condition.")] = 0,
    table: Annotated[str | None, typer.Option(help="modalities: both cameras, colour alone, auxiliary alone.")] = None,
    nanotrack: Annotated[Path | None, typer.Option(help="With --table: folder of NanoTrack's ONNX files.")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="With --table: YAML file with groups to average, see config/benchmarks.")
    ] = None,
    skip_broken: Annotated[bool, typer.Option(help="Name missing or broken sequences and go on without.")] = False,
    cut: Annotated[bool, typer.Option(help="Ignore surplus images or annotation rows at a sequence's end.")] = False,
    restart: Annotated[bool, typer.Option(help="Replace another run's results in OUT.")] = False,
    report: Annotated[bool, typer.Option(help="Write report.html, JSON and CSV.")] = True,
) -> None:
    """Track every sequence of a dataset and score the result.

    Example: sdstrack benchmark --dataset folder --root sequences/ --out runs/s128
    """
    from ckd_core.evaluation.conditions import parse_condition
    from ckd_core.evaluation.session import open_plan, print_progress, run_and_report, run_modalities

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
