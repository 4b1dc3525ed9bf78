"""Choose a checkpoint of a run, and turn it into the weights that ship.

Held-out pairs do not predict tracking, so every checkpoint's averaged weights track whole recordings: the sequences
that the recipe names, synthetic clips, and those sequences through one camera alone and with degraded colour.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch

from ckd_core.data.footage import recording_footage, synthetic_recordings
from ckd_core.data.open_sequences import require_no_test
from ckd_core.errors import TrackingError
from ckd_core.evaluation.footage_score import (
    CHOICE_SEED,
    CHOICE_WORLD,
    success,
    with_degraded_color,
    with_one_camera,
)
from ckd_core.files import discard, write_json
from ckd_core.locks import folder_lock
from ckd_core.models.checkpoint import default_weights, load_strictly, load_tensors, save_tensors
from ckd_core.models.published.starts import read_weights
from ckd_core.models.registry import build_model
from ckd_core.settings import build, to_plain
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.training import run_state
from ckd_core.training.config import TrainSettings
from ckd_core.training.state_file import load_checkpoint, part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ckd_core.data.footage import Footage
    from ckd_core.models.checkpoint import ModelMetadata
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.training.config import WeightsShare

# Of the parts of a score; a part without recordings does not count.
WEIGHTS = {"sequences": 0.4, "clips": 0.3, "one camera": 0.15, "degraded colour": 0.15}
CHOSEN = "chosen.safetensors"


class ChoiceError(TrackingError):
    """A run without anything to choose from, or weights that must not ship."""


@dataclass(frozen=True, slots=True)
class WeightsCandidate:
    """A checkpoint and its scores: success AUC by recording ("part: name"), and their weighted mean."""

    name: str
    step: int
    scores: dict[str, float]
    total: float


def choose(settings: TrainSettings, echo: Callable[[str], object] = lambda _: None) -> list[WeightsCandidate]:
    """Score every `epoch_NNNN` checkpoint of `settings.run.out` and `last`; best first.

    The best one's weights are written to `run.out/chosen.safetensors`, all scores to `run.out/choice.json`.

    Raises:
        ChoiceError: no checkpoint, or nothing to track.
        SplitError: a sequence of the recipe is kept for tests.
        SequenceError: a sequence of the recipe cannot be read.
        RunStateError: a broken checkpoint, or one trained with other settings, which would ship under their name.
        WeightsFileError: the chosen weights cannot be written, or those to average with cannot be read or do not fit.
        LockError: another process writes into the run's folder.
    """
    require_no_test((path.name for path in settings.choice.sequences), "choice.sequences")
    folder = settings.run.out / "checkpoints"
    paths = [*sorted(folder.glob("epoch_*.safetensors")), *sorted(folder.glob("last.safetensors"))]
    if not paths:
        raise ChoiceError(f"{folder} holds no epoch_NNNN.safetensors and no last.safetensors; train first")
    with folder_lock(settings.run.out, "sdstrack choose"):
        return _choose(settings, paths, echo)


def _choose(settings: TrainSettings, paths: list[Path], echo: Callable[[str], object]) -> list[WeightsCandidate]:
    parts = _recordings(settings)
    candidates: dict[int, WeightsCandidate] = {}
    for path in paths:
        network, recipe, step = averaged_network(path)
        run_state.require_same(path, to_plain(recipe), settings)
        if step in candidates:  # `last` is often the last epoch's
            continue
        _average(network, settings.choice.averaged_with)
        scores = {
            f"{kind}: {recording.name}": success(network, recording, run_state.published_crops(recipe))
            for kind, recordings in parts.items()
            for recording in recordings
        }
        candidates[step] = WeightsCandidate(path.stem, step, scores, _weighted(scores))
        echo(f"{path.stem}, step {step}: {candidates[step].total:.4f}  {_by_part(scores)}")
    ranked = sorted(candidates.values(), key=lambda c: -c.total)
    network, recipe, step = averaged_network(paths[0].with_name(f"{ranked[0].name}.safetensors"))
    _average(network, settings.choice.averaged_with)
    discard((settings.run.out / CHOSEN, settings.run.out / "choice.json"))
    run_state.export(settings.run.out / CHOSEN, network, recipe, step, {"choice/auc": ranked[0].total})
    write_json(settings.run.out / "choice.json", {"weights": WEIGHTS, "candidates": [asdict(c) for c in ranked]})
    return ranked


def averaged_network(path: Path) -> tuple[TrackingNetwork, TrainSettings, int]:
    """Network of a checkpoint without its training parts, moving average in, and the settings and step of its run."""
    tensors, state = load_checkpoint(path)
    settings = build(TrainSettings, state["settings"], str(path))
    overrides = {**settings.model.overrides, **({"teachers": False} if "teachers" in settings.model.overrides else {})}
    network = build_model(settings.model.name, **overrides)
    weights = part(tensors, "model")
    load_strictly(network, {name: weights[name] for name in network.state_dict() if name in weights}, str(path))
    # In place, because one tensor may have several names, and the average knows one of them.
    followed = dict(network.named_parameters()) | dict(network.named_buffers())
    with torch.no_grad():
        for name, value in part(tensors, "average").items():
            if name in followed:
                followed[name].copy_(value)
    return network.eval(), settings, int(state["step"])


def _average(network: TrackingNetwork, others: Sequence[WeightsShare]) -> None:
    """Average the network's weights with others, as `choice.averaged_with` says; in place."""
    if not others:
        return
    own = 1 - sum(other.share for other in others)
    total = {name: own * value for name, value in network.state_dict().items() if value.is_floating_point()}
    for other in others:
        loaded, weights = copy.deepcopy(network), read_weights(other.file)
        load_strictly(loaded, {name: weights[name] for name in loaded.state_dict() if name in weights}, str(other.file))
        for name, value in loaded.state_dict().items():
            if name in total:
                total[name] += other.share * value
    network.load_state_dict({**network.state_dict(), **total})


def ship(settings: TrainSettings, recipe: str, out: Path | None = None) -> tuple[Path, ModelMetadata]:
    """Write the chosen weights of a run in float16, with recipe and notice in their metadata.

    Args:
        settings: of the run.
        recipe: name of the recipe, for the metadata.
        out: file to write; None = the package's file for this network.

    Raises:
        ChoiceError: another network, no notice, or numbers that float16 cannot hold.
        WeightsFileError: there are no chosen weights, or the file cannot be written.
        LockError: another process writes into the file's folder.
    """
    source = settings.run.out / CHOSEN
    tensors, metadata = load_tensors(source)
    if metadata.model != settings.model.name:
        raise ChoiceError(f"{source} holds {metadata.model}; {recipe} is a recipe of {settings.model.name}")
    if not settings.model.notice:
        raise ChoiceError(f"{recipe} has no model.notice; weights ship with the licences of the data they learnt from")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.to(torch.float16)).all()):
            raise ChoiceError(f"{source}: {name} reaches {float(tensor.abs().max()):g}; float16 holds at most 65504")
    path = out or default_weights(settings.model.name)
    with folder_lock(path.parent, "sdstrack ship"):
        return path, _ship(settings, recipe, path, tensors, metadata)


def _ship(
    settings: TrainSettings, recipe: str, path: Path, tensors: dict[str, Tensor], metadata: ModelMetadata
) -> ModelMetadata:
    if settings.model.thresholds:
        limits = Thresholds.from_mapping(settings.model.thresholds)
        metadata = replace(metadata, tracking={**metadata.tracking, "thresholds": limits.as_mapping()})
    text = f"{metadata.source}; recipe {recipe}; {settings.model.notice}"
    return save_tensors(path, tensors, replace(metadata, source=text), torch.float16)


def _recordings(settings: TrainSettings) -> dict[str, list[Footage]]:
    choice = settings.choice
    parts = {
        "sequences": [recording_footage(folder) for folder in choice.sequences],
        "clips": synthetic_recordings(CHOICE_SEED, CHOICE_WORLD, choice.clips, choice.clip_frames),
        "one camera": [one for folder in choice.sequences for one in with_one_camera(folder)],
        "degraded colour": [one for folder in choice.sequences for one in with_degraded_color(folder)],
    }
    if not any(parts.values()):
        raise ChoiceError("choice.sequences is empty and choice.clips is 0; expected something to track")
    return parts


def _weighted(scores: dict[str, float]) -> float:
    means = {kind: _mean(scores, kind) for kind in WEIGHTS}
    there = {kind: mean for kind, mean in means.items() if not math.isnan(mean)}
    return sum(WEIGHTS[kind] * mean for kind, mean in there.items()) / sum(WEIGHTS[kind] for kind in there)


def _mean(scores: dict[str, float], kind: str) -> float:
    values = [value for name, value in scores.items() if name.startswith(f"{kind}: ")]
    return sum(values) / len(values) if values else math.nan


def _by_part(scores: dict[str, float]) -> str:
    means = {kind: _mean(scores, kind) for kind in WEIGHTS}
    return "  ".join(f"{kind} {mean:.3f}" for kind, mean in means.items() if not math.isnan(mean))
