"""`sdstrack robustness`: what a missing or spoilt camera costs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001 - typer reads annotations at run time


def command(
    root: options.Root,
    dataset: options.Dataset,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")],
    model: options.Model = "sdstrack_s128",
    weights: options.Weights = None,
    split: options.Split = None,
    sequences: options.Sequences = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="NAME[=AMOUNT][@rgb|aux|both], separated by commas. Missing: rgb_only, aux_only, rgb_gap, aux_gap, "
            "switching, bursts. Spoilt: blackout, noise, blur, overexposed, smoke, misaligned (px), offset (ms)."
        ),
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Shown for a missing image: duplicate, last, zeros or alone.")
    ] = "duplicate",
    policies: Annotated[
        str | None,
        typer.Option(help="Instead: compare stand-ins for a missing image, such as zeros,last,duplicate,alone."),
    ] = None,
    synthetic: Annotated[bool, typer.Option(help="With --policies: also on synthetic clips.")] = True,
    engine: options.Engine = "torch/fp32",
    device: options.Devices = "auto",
    workers: options.Workers = 1,
    threads: options.Threads = 0,
    seed: options.Seed = 0,
    skip_broken: options.SkipBroken = False,
    restart: options.Restart = False,
) -> None:
    """Table "full -> missing": every sequence with two cameras, under every condition.

    Example: sdstrack robustness -d folder --root sequences/ --out runs/robust --conditions bursts,misaligned=8
    """
    from ckd_core.evaluation.benchmark import open_plan, print_progress, run_policies, run_robustness
    from ckd_core.evaluation.running.conditions import PROTOCOL, Condition

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
        missing=missing,
        condition=Condition(seed=seed),
        workers=workers,
        threads=threads,
        restart=restart,
        skip_broken=skip_broken,
        echo=typer.echo,
    )
    wanted = conditions.split(",") if conditions else PROTOCOL
    with print_progress() as progress:
        if policies is None:
            written = run_robustness(plan, wanted, progress)
        else:
            written = run_policies(plan, policies.split(","), wanted, synthetic, progress)
    for path in written:
        typer.echo(f"wrote {path}")
