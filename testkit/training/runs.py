"""Small real training runs for tests: tiny networks, pairs generated on the fly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckd_core.data.pairs import TrainingSample
from ckd_core.models.registry import build_model
from ckd_core.settings import build
from ckd_core.training import optim
from ckd_core.training.build import build_objective
from ckd_core.training.config import TrainSettings
from ckd_core.training.loop import Trainer

if TYPE_CHECKING:
    from ckd_core.training.loop import TrainingSummary

__all__ = ["BrightSquares", "SomeAbsent", "optim", "run", "settings", "trainer", "weights"]
NO_GROUPS = [{"contains": [""], "lr": 1e-3}]


class BrightSquares:
    """Pairs with one bright square on noise, in both modalities; a pure function of (seed, index)."""

    def __init__(self, seed: int = 0, template: int = 64, search: int = 128, period: int = 1 << 60) -> None:
        self.seed, self.template, self.search, self.period = seed, template, search, period

    def __getitem__(self, index: int) -> TrainingSample:
        rng = np.random.default_rng((self.seed, index % self.period))
        color = rng.normal(0, 1, 6).astype(np.float32)
        return TrainingSample(
            *self._crop(rng, self.template, 0.25, color)[:1],
            (search := self._crop(rng, self.search, rng.uniform(0.1, 0.6, 2), color))[0],
            torch.tensor([0.25, 0.25, 0.5, 0.5]),
            search[1],
            source=f"square {index}",
        )

    @staticmethod
    def _crop(rng: np.random.Generator, side: int, corner: Any, color: Any) -> tuple[torch.Tensor, torch.Tensor]:
        image = rng.normal(0, 0.3, (6, side, side)).astype(np.float32)
        x, y = np.broadcast_to(corner, 2)
        size = 0.5 if side == 64 else 0.25
        x1, y1, s = int(x * side), int(y * side), int(size * side)
        image[:, y1 : y1 + s, x1 : x1 + s] += 2 * color[:, None, None]
        return torch.from_numpy(image), torch.tensor([x1, y1, s, s], dtype=torch.float32) / side


class SomeAbsent(BrightSquares):
    """The same, but the first two of every four pairs show no target."""

    def __getitem__(self, index: int) -> TrainingSample:
        sample = super().__getitem__(index)
        if index % 4 < 2:
            sample.search_box.copy_(torch.tensor([2.0, 2.0, 0.25, 0.25]))
        return sample


def settings(out: Path, model: str = "sdstrack_tiny_test", **changes: Any) -> TrainSettings:
    """Settings of a short run; `changes` are dotted keys with double underscores."""
    kind = model.split("_")[0]
    raw: dict[str, Any] = {
        "model": {"name": model, "modalities": ["thermal"], "overrides": {"drop_path": 0.0}},
        "objective": {"kind": kind},
        "data": {"train": [{"kind": "synthetic"}]},
        "optim": {"groups": NO_GROUPS, "freeze_batch_norm": kind == "sdstrack"},
        "run": {
            "out": str(out),
            "epochs": 2,
            "batch_size": 4,
            "samples_per_epoch": 12,
            "val_samples": 8,
            "val_every": 0,
            "workers": 0,
            "log_every": 1,
            "images_every": 0,
            "device": "cpu",
        },
    }
    if kind == "ckd":
        raw["model"]["overrides"]["teachers"] = True
    for dotted, value in changes.items():
        *parents, leaf = dotted.split("__")
        node = raw
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    return build(TrainSettings, raw, "test")


def trainer(chosen: TrainSettings, pairs: Any = None, **options: Any) -> Trainer:
    """Trainer with a freshly built network."""
    network = build_model(chosen.model.name, seed=1, **chosen.model.overrides)
    return Trainer(chosen, network, build_objective(chosen), pairs or BrightSquares(), **options)


def weights(one: Trainer) -> dict[str, torch.Tensor]:
    """Copy of the network's state."""
    return {name: value.clone() for name, value in one.network.state_dict().items()}


def run(chosen: TrainSettings, **options: Any) -> tuple[Trainer, TrainingSummary]:
    """Train from the start to the end."""
    one = trainer(chosen, **options)
    return one, one.run()
