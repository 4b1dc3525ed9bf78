"""`sdstrack demo`: a recording through the real node, by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckd_core import DEFAULT_MODEL

MODALITIES = ("rgbd", "rgbt", "rgbe")


def command(
    modality: Annotated[
        str, typer.Option(help="Auxiliary camera: rgbd (depth), rgbt (thermal), rgbe (event).")
    ] = "rgbt",
    bag: Annotated[Path | None, typer.Option(help="Play this recording instead of the synthetic scene.")] = None,
    sequence: Annotated[Path | None, typer.Option(help="Record this folder of images and play it.")] = None,
    init: Annotated[str, typer.Option(help="Box to start on: x,y,w,h; default: the first true box.")] = "",
    truth: Annotated[Path | None, typer.Option(help="True boxes, one line per frame, if the bag has none.")] = None,
    model: Annotated[str, typer.Option(help="Network.")] = DEFAULT_MODEL,
    weights: Annotated[str, typer.Option(help="Weights file; default: the shipped one.")] = "",
    any_modality: Annotated[
        bool, typer.Option("--any-modality", help="Do not warn of weights of another auxiliary camera.")
    ] = False,
    rate: Annotated[float, typer.Option(help="Playback speed; below 1, a small machine drops fewer frames.")] = 1.0,
    out: Annotated[Path, typer.Option(help="Folder for the recording, boxes, video and picture.")] = Path("out/demo"),
) -> None:
    """Play a recording through the real node, print a table, and write an overlay video and a picture."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from ckd_core.boxes import parse_box
    from ckd_core.files import discard
    from ckd_core.locks import folder_lock
    from ckd_core.tracking.engines.origin import weights_origin
    from sdstrack_ros.demo import run
    from sdstrack_ros.tracking.weights_path import weights_path

    if modality not in MODALITIES:
        raise typer.BadParameter(
            f"unknown modality '{modality}'; expected one of: {', '.join(MODALITIES)}", param_hint="--modality"
        )
    if bag is not None and sequence is not None:
        raise typer.BadParameter("--bag and --sequence exclude each other; use one of them")
    kind = run.MODALITY_NAMES[modality]
    folder = out / (bag or sequence or Path(modality)).name
    console = Console()
    with folder_lock(folder, "sdstrack demo"), Progress(console=console) as bars:
        discard(folder / name for name in run.RESULT_FILES)  # they are of another recording
        task = bars.add_task("recording", total=None)
        if sequence is not None:
            recording = run.demo_folder_recording(sequence, folder)
        elif bag is not None:
            start = parse_box(init) if init else None
            recording = run.open_demo_recording(bag, kind, start, truth)
        else:
            recording = run.demo_synthetic_recording(kind, folder)
        if recording.topics.aux and not any_modality:
            for warning in weights_origin(model, weights_path(weights)).warnings([recording.modality]):
                console.print(warning)
        total = len(recording.truth) or None
        bars.update(task, description="tracking", total=total, completed=0)
        parameters = {"model": model, "weights": weights}
        summary = run.run_demo(recording, folder, parameters, lambda count: bars.update(task, completed=count), rate)
        bars.update(task, description="done", completed=total)
    table = Table("", "", title=f"{modality}: {recording.bag.name}", show_header=False)
    for name in summary.__dataclass_fields__:
        value = getattr(summary, name)
        if value is not None:
            table.add_row(name.replace("_", " "), str(value))
    console.print(table)
    for name in ("overlay.mp4", "contact_sheet.png", "boxes.csv", "summary.json"):
        console.print(f"{folder / name}")
