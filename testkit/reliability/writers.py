"""The commands that write into a folder, small enough to be run and killed many times."""

from __future__ import annotations

import csv
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

from ckd_core.locks import LOCK_FILE
from testkit.bags.scenes import walking_square
from testkit.reliability.weights import write_tiny_weights
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from collections.abc import Callable

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


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes:
        name: its verb.
        words: its command line, for a folder to write into.
        decisive: files whose content is the same after an undisturbed call and after one that went on.
        needs: the writer that must have written into the folder before.

    """

    name: str
    words: Callable[[Path, Material], list[object]]
    decisive: tuple[str, ...] = ()
    needs: str = ""


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


WRITERS = (
    Writer("benchmark", _benchmark, ("score.json",)),
    Writer("robustness", _robustness, ("robustness.json",)),
    Writer("train", _train, ("final.safetensors",)),
    Writer("choose", _choose, ("chosen.safetensors", "choice.json"), needs="train"),
    Writer("ship", _ship, ("shipped.safetensors",), needs="choose"),
    Writer("calibrate", _calibrate, ("calibrated.safetensors",)),
    Writer("export", _export),
    Writer("run", _run, ("boxes.csv", "a.txt")),
    Writer("evaluate", _evaluate, ("result.json", "boxes.txt")),
)
BY_NAME = {writer.name: writer for writer in WRITERS}


def write_material(folder: Path) -> Material:
    """Two scenes with absences, random weights, a recording, and a recipe."""
    from sdstrack_ros.bags.writer import write_bag

    for seed, name in enumerate(("a", "b")):
        write_scene(folder / "scenes" / name, seed=seed)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    weights = write_tiny_weights(folder / "weights.safetensors")
    return Material(folder / "scenes", Path(weights), write_bag(folder / "bag", *walking_square(12)), recipe)


def features_recipe(folder: Path, material: Material) -> Path:
    """A recipe for `label` and `cache` that writes tracks and features into this folder."""
    source = {
        "kind": "features", "root": str(material.scenes), "tracks": str(folder / "tracks.json"), "count": 64,
        "cache": str(folder), "groups": [{"name": "clips", "what": "tracks", "share": 1.0, "files": ["*.mp4"]}],
    }  # fmt: skip
    recipe = {
        "model": {"name": "sdstrack_m256", "modalities": ["thermal"]},
        "objective": {"kind": "factor"},
        "data": {"train": [source]},
        "optim": {"groups": [{"contains": ["encoder"], "lr": 1e-3}]},
        "run": {**RECIPE["run"], "out": str(folder)},
    }
    path = material.recipe.with_name(f"features_{folder.parent.name}.yaml")
    path.write_text(yaml.safe_dump(recipe))
    return path


def locks_of(folder: Path) -> tuple[Path, Path]:
    """Where the lock of a folder may be: in it, or beside it while it is to appear whole."""
    return folder / LOCK_FILE, folder.with_name(f".{folder.name}.lock")


def start(words: list[object], log: Path, file_bytes: int | None = None) -> int:
    """Run a verb in a forked child, which has the imports of this process already; returns its process id.

    Args:
        words: The command line.
        log: Takes what the child prints.
        file_bytes: No file may grow beyond it, as on a disk that is full.

    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        sys.stdout = sys.stderr = log.open("a", buffering=1)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        sys.argv = ["sdstrack", *map(str, words)]
        from sdstrack_ros import cli

        cli.main()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # a child never returns into the test
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(child: int) -> int:
    """The exit status of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def until_it_writes(child: int, folder: Path, patience_s: float = 120.0) -> bool:
    """Wait until the child holds the folder's lock; False when it has ended before that was seen."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        for lock in locks_of(folder):
            try:
                if lock.stat().st_size and f"process {child} " in lock.read_text():
                    return True
            except OSError:
                continue
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.0005)
    raise TimeoutError(f"process {child} does not write into {folder}")


def require_whole(folder: Path) -> None:
    """Check every file that is not hidden: what a dead process has left is whole."""
    from ckd_core.models.checkpoint import load_tensors
    from ckd_core.training.state_file import load_checkpoint

    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            (load_checkpoint if path.parent.name == "checkpoints" else load_tensors)(path)
        elif path.suffix == ".csv":
            with path.open(newline="") as stream:
                rows = list(csv.reader(stream))
            assert len({len(row) for row in rows}) == 1, path
        elif path.suffix == ".txt":
            assert path.read_text().endswith("\n"), path
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        elif path.suffix == ".png":
            assert cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is not None, path
        elif path.suffix == ".mp4":
            assert cv2.VideoCapture(str(path)).read()[0], path
