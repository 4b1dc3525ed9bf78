"""`sdstrack vot`: serve the VOT toolkit."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    model: options.Model = None,
    weights: options.Weights = None,
    modality: Annotated[str, typer.Option(help="The auxiliary channel: depth or thermal.")] = "depth",
    engine: options.Engine = "torch/fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all usable cores.")] = 0,
    any_modality: options.AnyModality = False,
    registry: Annotated[
        Path | None, typer.Option(help="Write the entry for these options into this trackers.ini, then stop.")
    ] = None,
    name: Annotated[str, typer.Option(help="Identifier in the registry.")] = "sdstrack",
) -> None:
    """Speak TraX with `vot evaluate`.

    Once: vot initialize vot2022/rgbd; sdstrack vot --registry trackers.ini. Then: vot evaluate sdstrack.

    DepthTrack is the stack vot2021/rgbd. vot-toolkit 0.7.4 works; in 0.8.0 to 0.9.0 multistart experiments do not.
    """
    from ckd_core.evaluation.vot_server import VotError, channel_of, registry_entry, serve, write_registry
    from ckd_core.frame import Modality
    from ckd_core.locks import folder_lock
    from ckd_core.tracking import build_tracker
    from ckd_core.tracking.engines.build import resolve_engine
    from ckd_core.tracking.engines.origin import model_of, weights_origin

    known = [item.value for item in Modality]
    if modality not in known:
        raise VotError(f"modality={modality!r}; expected one of {', '.join(known)}")
    kind = Modality(modality)
    channel_of(kind)
    model = model_of(model, weights)
    if not any_modality:
        weights_origin(model, weights).require([kind])
    engine = resolve_engine(model, weights, engine, device, threads).engine
    if registry is not None:
        arguments = ["--model", model, "--modality", modality, "--engine", engine, "--device", device]
        arguments += ["--threads", str(threads)]
        arguments += ["--weights", str(weights.resolve())] if weights else []
        arguments += ["--any-modality"] if any_modality else []
        with folder_lock(registry.parent, "sdstrack vot"):
            write_registry(registry, registry_entry(name, f"{model} {modality}", arguments))
        say(f"wrote {name} into {registry}")
        return
    tracker = build_tracker(
        model, weights, kind, engine=engine, device=device, threads=threads, strict_device=True, any_modality=True
    )
    serve(tracker, kind, model)
