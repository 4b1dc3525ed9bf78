"""`sdstrack evaluate`: score the tracker on a recording, the same way every time."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    bag: Annotated[Path, typer.Argument(help="rosbag2 folder, or a single .mcap or .db3 file.")],
    config: Annotated[Path | None, typer.Option(help="The node's parameter file, such as config/rgbt.yaml.")] = None,
    modality: Annotated[str | None, typer.Option(help="depth, thermal or event, instead of the file's.")] = None,
    model: Annotated[str | None, typer.Option(help="Network, instead of what WEIGHTS or the file say.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights, instead of the file's.")] = None,
    any_modality: Annotated[
        bool, typer.Option("--any-modality", help="Also run weights on a camera that they were not trained with.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or auto, instead of the file's.")] = None,
    engine: Annotated[str | None, typer.Option(help="How the network runs, instead of the file's.")] = None,
    rgb: Annotated[str, typer.Option(help="Colour topic; default: found by its name.")] = "",
    aux: Annotated[str, typer.Option(help="Topic of the auxiliary camera; default: found by its name.")] = "",
    truth: Annotated[str, typer.Option(help="Detection2DArray topic with the true boxes.")] = "",
    truth_file: Annotated[Path | None, typer.Option(help="True boxes x,y,w,h, one line per colour frame.")] = None,
    init_box: Annotated[str | None, typer.Option(help="Box x,y,w,h to start on in the first frame.")] = None,
    recover: Annotated[bool, typer.Option("--recover", help="Read what is whole of damaged MCAP files.")] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Also score as live: late boxes and dropped frames count.")
    ] = False,
    latency_ms: Annotated[
        float | None, typer.Option(help="With --realtime: milliseconds per frame, instead of measured ones.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for result.json, boxes.txt, streaming.json, report.html.")
    ] = None,
) -> None:
    """Track every frame of a recording as the node would, and score it; needs no ROS installation."""
    from sdstrack_ros.bags.evaluate import EvaluateRequest, evaluate

    request = EvaluateRequest(
        bag=bag,
        config=config,
        overrides={
            name: value
            for name, value in (
                ("modality", modality), ("model", model), ("weights", None if weights is None else str(weights)),
                ("device", device), ("engine", engine),
            )
            if value is not None
        },
        rgb=rgb,
        aux=aux,
        truth=truth,
        truth_file=truth_file,
        init_box=init_box,
        recover=recover,
        realtime=realtime or latency_ms is not None,
        latency_s=None if latency_ms is None else latency_ms / 1000,
        out=out,
        any_modality=any_modality,
    )  # fmt: skip
    for line in evaluate(request):
        say(line)
