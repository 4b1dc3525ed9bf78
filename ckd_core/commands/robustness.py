"""`sdstrack robustness`: what a missing or spoilt camera costs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer


def command(
    root: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="lasher, rgbt234, gtot, depthtrack, folder, ...")],
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")],
    model: Annotated[str, typer.Option(help="Name of the network.")] = "sdstrack_s128",
    weights: Annotated[Path | None, typer.Option(help="Weights; default: those that come with the package.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset; default: test.")] = None,
    sequences: Annotated[str | None, typer.Option(help="Only these sequences, separated by commas.")] = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="NAME[=AMOUNT][@rgb|aux|both], separated by commas. Missing: rgb_only, aux_only, rgb_gap, aux_gap, "
            "switching, bursts. Spoilt: blackout, noise, blur, overexposed, misaligned (px), offset (ms)."
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
    engine: Annotated[str, typer.Option(help="How the network runs, e.g. torch/fp32, openvino/bf16.")] = "torch/fp32",
    device: Annotated[str, typer.Option(help="Devices for the workers in turn, e.g. cuda:0,cuda:1.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads a worker; 0: cores / workers.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="For what is random in a condition.")] = 0,
    skip_broken: Annotated[bool, typer.Option(help="Name missing or broken sequences and go on without.")] = False,
    restart: Annotated[bool, typer.Option(help="Replace other runs' results in OUT.")] = False,
) -> None:
    """Table "full -> missing": every sequence with two cameras, under every condition.

    Example: sdstrack robustness -d folder --root sequences/ --out runs/robust --conditions bursts,misaligned=8
    """
    from ckd_core.evaluation.conditions import PROTOCOL, Condition
    from ckd_core.evaluation.session import open_plan, print_progress, run_policies, run_robustness

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
