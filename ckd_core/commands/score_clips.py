"""`sdstrack score-clips`: weights on synthetic recordings that no training run and no choice has used."""

from __future__ import annotations

from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    model: options.Model = None,
    weights: options.Weights = None,
    clips: Annotated[int, typer.Option(min=1, help="How many; modalities, targets and troubles in turn.")] = 27,
    frames: Annotated[int, typer.Option(min=2, help="Frames per clip.")] = 60,
    one_camera: Annotated[bool, typer.Option(help="Also with each camera alone after the first frame.")] = True,
    at_least: Annotated[float, typer.Option(help="Exit status 1 below this mean with both cameras.")] = 0.0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all cores.")] = 1,
) -> None:
    """Success AUC over held-out synthetic recordings, as a Markdown table; the clips are the same every time."""
    import torch

    from ckd_core.data.footage import synthetic_recordings
    from ckd_core.evaluation.footage_score import HELD_OUT_SEED, HELD_OUT_WORLD, masked, mean_success
    from ckd_core.evaluation.running.conditions import AUX_ALONE, RGB_ALONE
    from ckd_core.frame import Modality
    from ckd_core.models.checkpoint import load_model
    from ckd_core.tracking.engines.build import tracking_metadata
    from ckd_core.tracking.engines.origin import model_of

    if threads:
        torch.set_num_threads(threads)
    model = model_of(model, weights)
    network, metadata = load_model(weights or model, model=model)
    published = tracking_metadata(metadata.tracking)[1]
    recordings = synthetic_recordings(HELD_OUT_SEED, HELD_OUT_WORLD, clips, frames)
    groups = {"both cameras": recordings}
    if one_camera:
        for name, condition in (("colour alone", RGB_ALONE), ("auxiliary alone", AUX_ALONE)):
            groups[name] = [masked(recording, condition) for recording in recordings]
    say(f"{model}: success AUC over {clips} held-out clips of {frames} frames\n")
    say("| cameras | " + " | ".join(m.value for m in Modality) + " | all |")
    say("|---|" + "---|" * (len(Modality) + 1))
    means = {}
    for name, group in groups.items():
        parts = [[recording for recording in group if recording.modality is modality] for modality in Modality]
        values = [mean_success(network, part, published) for part in parts]
        means[name] = sum(value * len(part) for value, part in zip(values, parts, strict=True) if part) / len(group)
        say(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + f" | {means[name]:.3f} |")
    if means["both cameras"] < at_least:
        say(f"error: {means['both cameras']:.3f} with both cameras; expected at least {at_least:g}", err=True)
        raise typer.Exit(1)
