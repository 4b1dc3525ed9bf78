"""`sdstrack run`: track one object through recorded files."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A sequence folder (visible/ + infrared|depth|event/), or a colour and an auxiliary video, "
            "or two quoted patterns of images; a Prophesee .raw file as the auxiliary one, or alone; "
            '"" in the place of a missing camera.'
        ),
    ],
    init: Annotated[
        str | None, typer.Option(help="Box x,y,w,h of the object in the first frame; default: the folder's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: out/run/NAME.")] = None,
    modality: Annotated[str | None, typer.Option(help="depth, thermal or event; default: the folder's.")] = None,
    model: options.Model = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights or a folder written by sdstrack export; default: the package's own.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, measure, torch/fp32, openvino/bf16 ...")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all usable cores.")] = 0,
    strict_device: Annotated[
        bool, typer.Option(help="Fail when the engine or device is not available, instead of falling back.")
    ] = False,
    published: Annotated[bool, typer.Option(help="The published tracker: no states, no search growth.")] = False,
    missing: Annotated[
        str | None, typer.Option(help="Replacement for a missing image: zeros, last, duplicate or alone.")
    ] = None,
    ego_motion: Annotated[
        bool, typer.Option("--ego-motion", help="Foresee where the camera's own motion carries the target.")
    ] = False,
    any_modality: options.AnyModality = False,
    fps: Annotated[float, typer.Option(min=0.1, help="Frames per second of images.")] = 30.0,
    video: Annotated[bool, typer.Option(help="Write the overlay video.")] = True,
) -> None:
    """Track one object; writes boxes.csv, NAME.txt, overlay.mp4 and timeline.png.

    Example: sdstrack run sequences/man --init 131,185,115,295
    """
    from ckd_core.replay.recording import ReplayError, open_recording, parse_modality
    from ckd_core.replay.run import start_box, track_recording, tracker_config
    from ckd_core.tracking import build_tracker
    from ckd_core.tracking.camera_motion import ImageMotion
    from ckd_core.tracking.engines.origin import weights_origin

    if ego_motion and published:
        raise ReplayError("--ego-motion is no part of the published tracker; leave it or --published out")
    recording = open_recording(sources, parse_modality(modality), fps)
    box, config = start_box(recording, init), tracker_config(published, missing)
    if not any_modality and recording.has_auxiliary:
        for warning in weights_origin(model, weights).warnings([recording.modality]):
            say(warning)
    tracker = build_tracker(
        model, weights, recording.modality, config, engine, device, threads, strict_device, any_modality=True
    )
    tracker.camera_motion = ImageMotion() if ego_motion else None
    say(track_recording(recording, box, tracker, out, video=video))
