"""`sdstrack export`: a network as a program for one engine, in its own folder."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    out: Annotated[Path, typer.Option(help="New folder for program, weights and metadata.")],
    model: options.Model = None,
    weights: Annotated[Path | None, typer.Option(help="Weights; default: the package's own.")] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="openvino/fp32, openvino/bf16, openvino/int8, onnx/fp32, onnx/fp16, tensorrt/fp16, torch/bf16 ..."
        ),
    ] = "openvino/fp32",
    device: Annotated[str, typer.Option(help="cpu or cuda: where it will run.")] = "cpu",
    batches: Annotated[str, typer.Option(help="Numbers of targets that the programs are for, e.g. 1,2,4,8.")] = "1",
    sequences: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of sequences for int8 calibration and the comparison; repeatable."),
    ] = None,
    crops: Annotated[int, typer.Option(min=1, help="Crops to calibrate int8 on.")] = 64,
) -> None:
    """Export a network; use the folder as `--weights` of run, benchmark and the node.

    Example: sdstrack export --out m256_int8 --engine openvino/int8 --sequences sequences/
    """
    from ckd_core.deploy.export_model import export_model
    from ckd_core.tracking.engines.origin import model_of

    try:
        counts = [int(part) for part in batches.split(",")]
    except ValueError:
        raise typer.BadParameter(f"'{batches}'; expected numbers such as 1,2,4", param_hint="--batches") from None
    if min(counts) < 1:
        raise typer.BadParameter(f"'{batches}'; a program is for 1 target or more", param_hint="--batches")
    report = export_model(
        out,
        model_of(model, weights),
        weights,
        engine,
        device=device,
        batches=counts,
        sequences=sequences or (),
        crops=crops,
    )
    say(f"wrote {out}: {report.metadata.spec.model} for {report.metadata.engine} on {report.metadata.device}")
    if report.agreement is None:
        say(f"not compared with torch/fp32: {report.reason}")
        return
    kind = "real" if report.real else "synthetic"
    say(f"median IoU with torch/fp32 on {report.compared} {kind} crops: {report.agreement:.4f}")
    if report.agreement < report.promised:
        say(f"warning: {report.promised} was expected; do not use this export", err=True)
