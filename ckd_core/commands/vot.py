"""`sdstrack vot`: the tracker as the VOT toolkit starts it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Option(help="Name of the network.")] = "sdstrack_s128",
    weights: Annotated[Path | None, typer.Option(help="Weights; default: those that come with the package.")] = None,
    modality: Annotated[str, typer.Option(help="The second channel: depth or thermal.")] = "depth",
    engine: Annotated[
        str, typer.Option(help="How the network runs, e.g. torch/fp32, openvino/bf16, auto; no fallback.")
    ] = "torch/fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: the engine's own choice.")] = 0,
    registry: Annotated[
        Path | None, typer.Option(help="Write the entry for these options into this trackers.ini, and stop.")
    ] = None,
    name: Annotated[str, typer.Option(help="Identifier in the registry.")] = "sdstrack",
) -> None:
    """Speak TraX with `vot evaluate`.

    Once: vot initialize vot2022/rgbd; sdstrack vot --registry trackers.ini. Then: vot evaluate sdstrack.
    """
    from ckd_core.evaluation.vot_server import VotError, channel_of, registry_entry, serve, write_registry
    from ckd_core.frame import Modality
    from ckd_core.tracking import build_tracker
    from ckd_core.tracking.engines.build import resolve_engine

    known = [item.value for item in Modality]
    if modality not in known:
        raise VotError(f"modality={modality!r}; expected one of {', '.join(known)}")
    kind = Modality(modality)
    channel_of(kind)
    engine = resolve_engine(model, weights, engine, device)
    if registry is not None:
        arguments = ["--model", model, "--modality", modality, "--engine", engine, "--device", device]
        arguments += ["--threads", str(threads)]
        arguments += ["--weights", str(weights.resolve())] if weights else []
        write_registry(registry, registry_entry(name, f"{model} {modality}", arguments))
        typer.echo(f"wrote {name} into {registry}")
        return
    tracker = build_tracker(model, weights, kind, engine=engine, device=device, threads=threads, strict_device=True)
    serve(tracker, kind, model)
