"""The commands that write into a folder, small enough to be run and killed many times."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import yaml

import ckd_core
import sdstrack_ros
from ckd_core.data import trials
from ckd_core.deploy import tune
from ckd_core.models.registry import build_model
from testkit.bags.scenes import walking_square
from testkit.reliability.weights import write_tiny_weights
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RECIPE: dict[str, Any] = {
    "model": {"name": TINY, "modalities": ["thermal"], "overrides": {"drop_path": 0.0}, "notice": "synthetic"},
    "objective": {"kind": "sdstrack"},
    "data": {"train": [{"kind": "synthetic"}]},
    "optim": {"groups": [{"contains": [""], "lr": 1e-3}], "freeze_batch_norm": True},
    "run": {
        "epochs": 3, "batch_size": 2, "samples_per_epoch": 6, "val_samples": 2, "val_every": 0, "workers": 0,
        "log_every": 1, "images_every": 0, "checkpoint_every": 1, "device": "cpu",
    },
    "choice": {"clips": 1, "clip_frames": 4},
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What the commands read."""

    scenes: Path
    weights: Path
    bag: Path
    recipe: Path
    clips: Path
    teacher: Path
    boxes: Path
    published: Path


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes:
        name: its verb.
        words: its command line, for a folder to write into.
        decisive: files whose content is the same after an undisturbed call and after one that went on.
        needs: the writer that must have written into the folder before.
        reads: pattern of what that one has left for it.
        replaces: whether a second call puts its files in the place of the first one's.
        new: whether it wants a folder that is not there yet, in which the whole result appears at once.

    """

    name: str
    words: Callable[[Path, Material], list[object]]
    decisive: tuple[str, ...] = ()
    needs: str = ""
    reads: str = ""
    replaces: bool = False
    new: bool = False


def _benchmark(folder: Path, material: Material) -> list[object]:
    return [
        "benchmark", "-d", "folder", "--root", material.scenes, "--model", TINY, "--weights", material.weights,
        "--device", "cpu", "--threads", 1, "--engine", "torch/fp32", "--out", folder,
    ]  # fmt: skip


def _robustness(folder: Path, material: Material) -> list[object]:
    return ["robustness", *_benchmark(folder, material)[1:], "--conditions", "bursts"]


def _train(folder: Path, material: Material) -> list[object]:
    return ["train", material.recipe, f"run.out={folder}", "--resume"]


def _choose(folder: Path, material: Material) -> list[object]:
    return ["choose", material.recipe, f"run.out={folder}"]


def _ship(folder: Path, material: Material) -> list[object]:
    return ["ship", material.recipe, f"run.out={folder}", "--out", folder / "shipped.safetensors"]


def _calibrate(folder: Path, material: Material) -> list[object]:
    out = folder / "calibrated.safetensors"
    return ["calibrate", "--model", TINY, "--weights", material.weights, "--sequences", material.scenes,
            "--scenes", 0, "--out", out]  # fmt: skip


def _export(folder: Path, material: Material) -> list[object]:
    return ["export", "--out", folder, "--model", TINY, "--weights", material.weights, "--engine", "torch/fp32"]


def _run(folder: Path, material: Material) -> list[object]:
    return ["run", material.scenes / "a", "--model", TINY, "--weights", material.weights, "--engine", "torch/fp32",
            "--device", "cpu", "--out", folder]  # fmt: skip


def _evaluate(folder: Path, material: Material) -> list[object]:
    return ["evaluate", material.bag, "--modality", "thermal", "--model", TINY, "--weights", material.weights,
            "--engine", "torch/fp32", "--device", "cpu", "--out", folder]  # fmt: skip


def _label(folder: Path, material: Material) -> list[object]:
    groups = [{"name": "clips", "what": "tracks", "share": 1.0, "files": ["*.mp4"]}]
    recipe = _features(folder, material, groups, tracks=folder / "tracks.json")
    return ["label", recipe, "--teacher", material.teacher]


def _cache(folder: Path, material: Material) -> list[object]:
    groups = [{"name": "photos", "what": "patches", "share": 1.0, "files": ["*.png"]}]
    return ["cache", _features(folder, material, groups), "--threads", 1]


def _demo(folder: Path, material: Material) -> list[object]:
    return ["demo", "--sequence", material.scenes / folder.name, "--out", folder.parent, "--model", TINY,
            "--weights", material.weights]  # fmt: skip


def _score(folder: Path, material: Material) -> list[object]:
    return ["score", material.boxes, "--benchmark", "folder", "--truth", material.scenes, "--report", folder]


def _figure(folder: Path, material: Material) -> list[object]:
    return ["figure", "success", material.boxes, "--benchmark", "folder", "--truth", material.scenes,
            "--out", folder / "success"]  # fmt: skip


def _tune(folder: Path, material: Material) -> list[object]:
    return [f"SDSTRACK_CACHE={folder}", "tune", "--model", TINY, "--weights", material.weights, "--device", "cpu",
            "--threads", 1, "--seconds", 1, "--int8"]  # fmt: skip


def _trials(folder: Path, _: Material) -> list[object]:
    return ["trials", folder]


def _vot(folder: Path, material: Material) -> list[object]:
    return ["vot", "--model", TINY, "--weights", material.weights, "--modality", "thermal", "--registry",
            folder / "trackers.ini"]  # fmt: skip


def _convert(folder: Path, material: Material) -> list[object]:
    return ["convert", material.published, "--model", TINY, "--modality", "thermal", "--out",
            folder / "converted.safetensors"]  # fmt: skip


WRITERS = (
    Writer("benchmark", _benchmark, ("score.json",)),
    Writer("robustness", _robustness, ("robustness.json",)),
    Writer("train", _train, ("final.safetensors",)),
    Writer(
        "choose",
        _choose,
        ("chosen.safetensors", "choice.json"),
        needs="train",
        reads="checkpoints/epoch_*",
        replaces=True,
    ),
    Writer("ship", _ship, ("shipped.safetensors",), needs="choose", reads="chosen.safetensors"),
    Writer("calibrate", _calibrate, ("calibrated.safetensors",)),
    Writer("export", _export, new=True),
    Writer("run", _run, ("a.txt",), replaces=True),
    Writer("evaluate", _evaluate, ("result.json", "boxes.txt"), replaces=True),
    Writer("score", _score, ("report.json", "sequences.csv"), replaces=True),
    Writer("figure", _figure, ("success.png", "success.pdf", "success.csv"), replaces=True),
    Writer("label", _label, ("tracks.json",)),
    Writer("cache", _cache, ("manifest.json", "template.npy", "search.npy", "boxes.npy")),
    Writer("tune", _tune),  # other times each time
    Writer(
        "trials",
        _trials,
        tuple(f"{name}_clip_56000_depth_person_none/groundtruth.txt" for name in ("away", "fast")),
        new=True,
    ),
    Writer("vot", _vot, ("trackers.ini",)),
    Writer("convert", _convert, ("converted.safetensors",)),
    Writer("demo", _demo, replaces=True),  # a live node drops other frames each time
)
BY_NAME = {writer.name: writer for writer in WRITERS}


def preload() -> None:
    """Import what the commands import, so that their forked children need not, and make the long ones short."""
    for package in (ckd_core, sdstrack_ros):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "matplotlib.backends.backend_pdf", "rich.progress", "torch.utils.tensorboard",
                 "openvino", "nncf"):  # fmt: skip
        importlib.import_module(name)
    one = replace(trials.TRIED, recordings=1)
    for name, value in {"SCENES_PER_MODALITY": 0, "TRIED": one, "RECORDING_FRAMES": 30}.items():
        setattr(trials, name, value)
    sizes: dict[str, Any] = {
        "SYNTHETIC_FRAMES": 6,
        "CALIBRATION_SCENES": 1,
        "CALIBRATION_INPUTS": 4,
        "COMPARED_INPUTS": 4,
        "CALLS": 1,
    }
    for name, value in {**sizes, "candidates": lambda *_: ["torch/fp32"]}.items():
        setattr(tune, name, value)


def write_material(folder: Path, teacher: Path) -> Material:
    """Two scenes with absences, random weights, a recording, a recipe, three clips and a photograph."""
    from sdstrack_ros.bags.writer import write_bag

    boxes = folder / "boxes"
    boxes.mkdir()
    for seed, name in enumerate(("a", "b")):
        scene = write_scene(folder / "scenes" / name, seed=seed)
        (boxes / f"{name}.txt").write_text((scene / "groundtruth.txt").read_text().replace("nan", "0"))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    weights = write_tiny_weights(folder / "weights.safetensors")
    bag = write_bag(folder / "bag", *walking_square(12))
    clips = folder / "clips"
    clips.mkdir()
    for number in range(3):
        write_clip(clips / f"walk{number}.mp4", number)
    cv2.imwrite(str(clips / "place.png"), texture(5))
    published = folder / "published.pth"
    torch.save({"net": build_model(TINY, seed=4).state_dict()}, published)
    return Material(folder / "scenes", Path(weights), bag, recipe, clips, teacher, boxes, published)


def texture(seed: int) -> NDArray[np.uint8]:
    """An image [120, 160, 3] with texture everywhere, coarse enough for a codec."""
    small = np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_clip(path: Path, seed: int, frames: int = 12) -> None:
    """A white box walks over a still background."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (160, 120))
    for index in range(frames):
        frame = texture(seed)
        frame[30:70, 20 + 4 * index : 38 + 4 * index] = 255
        video.write(frame)
    video.release()


def _features(folder: Path, material: Material, groups: list[dict[str, Any]], **where: Path) -> Path:
    """A recipe of real pairs whose tracks and features go where `where` says."""
    source = {"kind": "features", "root": str(material.clips), "count": 64, "max_refused": 0.5, "groups": groups}
    source |= {"tracks": str(material.clips / "tracks.json"), "cache": str(folder)}
    source |= {name: str(path) for name, path in where.items()}
    recipe = {
        "model": {"name": "sdstrack_s128", "modalities": ["thermal"]},
        "objective": {"kind": "sdstrack"},
        "data": {"train": [source]},
        "optim": {"groups": [{"contains": ["encoder"], "lr": 1e-3}]},
        "run": {**RECIPE["run"], "out": str(folder)},
    }
    path = material.recipe.with_name(f"features_{folder.parent.name}_{len(where)}.yaml")
    path.write_text(yaml.safe_dump(recipe))
    return path
