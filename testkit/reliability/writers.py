"""The commands that write into a folder, small enough to be run and killed many times."""

from __future__ import annotations

import csv
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

import ckd_core
import sdstrack_ros
from ckd_core.locks import LOCK_FILE
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

    """

    name: str
    words: Callable[[Path, Material], list[object]]
    decisive: tuple[str, ...] = ()
    needs: str = ""
    reads: str = ""
    replaces: bool = False


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
    Writer("export", _export),
    Writer("run", _run, ("a.txt",), replaces=True),
    Writer("evaluate", _evaluate, ("result.json", "boxes.txt"), replaces=True),
    Writer("score", _score, ("report.json", "sequences.csv"), replaces=True),
    Writer("figure", _figure, ("success.png", "success.pdf", "success.csv"), replaces=True),
    Writer("label", _label, ("tracks.json",)),
    Writer("cache", _cache, ("manifest.json", "template.npy", "search.npy", "boxes.npy")),
    Writer("demo", _demo, replaces=True),  # a live node drops other frames each time
)
BY_NAME = {writer.name: writer for writer in WRITERS}


def preload() -> None:
    """Import what the commands import, so that their forked children need not."""
    for package in (ckd_core, sdstrack_ros):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "matplotlib.backends.backend_pdf", "rich.progress", "torch.utils.tensorboard"):
        importlib.import_module(name)


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
    return Material(folder / "scenes", Path(weights), bag, recipe, clips, teacher, boxes)


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


def locks_of(folder: Path) -> tuple[Path, Path]:
    """Where the lock of a folder may be: in it, or beside it while it is to appear whole."""
    return folder / LOCK_FILE, folder.with_name(f".{folder.name}.lock")


class Watch:
    """Reports each change of a forked command below a folder, and can stop the command just before one of them.

    A change is a file that is opened for writing, renamed, deleted, truncated or given another mode, as Python's audit
    events tell; what libraries write into the opened files comes in between. Lock files do not count.
    """

    CHANGES = ("open", "os.rename", "os.remove", "os.truncate", "os.chmod", "shutil.rmtree")

    def __init__(self, folder: Path, stop_before: int = 0) -> None:
        """Watch.

        Args:
            folder: That the command writes; hidden files beside it also belong to it.
            stop_before: The number of the change, from 1, before which the command stops (SIGSTOP); 0: it does not.

        """
        self.changes = 0
        self.unlocked: list[str] = []
        self._folder, self._stop_before = folder, stop_before
        self._places = tuple(map(str, (folder, *locks_of(folder.resolve()), folder.with_name(f".{folder.name}"))))
        self._read, self._write = os.pipe()

    def install(self) -> None:
        """In the child: begin to report."""
        os.close(self._read)
        sys.addaudithook(self._seen)

    def wait_for(self, changes: int) -> bool:
        """In the parent: whether the command gets so far before it ends."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1
        while self.changes < changes:
            line = self._line()
            if not line:
                return False
            self.changes += 1
            if line.startswith("unlocked "):
                self.unlocked.append(line)
        return True

    def close(self) -> None:
        """In the parent: forget the child."""
        os.close(self._read)

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._read, 1)
            if not byte:
                return ""
            line += byte
        return line.decode(errors="replace")

    def _seen(self, event: str, words: tuple[Any, ...]) -> None:
        if event not in self.CHANGES or (event == "open" and not int(words[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
            return
        place = os.fsdecode(words[0]) if isinstance(words[0], (str, bytes, os.PathLike)) else ""
        if not place.startswith(self._places) or place.endswith(".lock"):
            return
        self.changes += 1
        locked = any(f"process {os.getpid()} " in _text(lock) for lock in locks_of(self._folder))
        os.write(self._write, f"{'' if locked else 'unlocked '}{event} {place}\n".encode(errors="replace"))
        if self.changes == self._stop_before:
            os.kill(os.getpid(), signal.SIGSTOP)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def start(words: list[object], log: Path, file_bytes: int | None = None, watch: Watch | None = None) -> int:
    """Run a verb in a forked child, which has the imports of this process already; returns its process id.

    Args:
        words: The command line.
        log: Takes what the child prints.
        file_bytes: No file may grow beyond it, as on a disk that is full.
        watch: Sees what the child changes.

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
        if watch is not None:
            watch.install()
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


def kill(child: int) -> int:
    """Send SIGKILL to a child; returns its exit status, which is another one where it had ended.

    Raises:
        AssertionError: A process that the child had started outlives it.

    """
    started = descendants(child)
    os.kill(child, signal.SIGKILL)
    status = wait(child)
    deadline = time.monotonic() + 10
    while alive := {process for process in started if Path(f"/proc/{process}").exists()}:
        assert time.monotonic() < deadline, f"processes {alive} go on after their parent {child} was killed"
        time.sleep(0.01)
    return status


def descendants(process: int) -> set[int]:
    """Processes that a process has started, and those that these have."""
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, _text(task).split()):
            found |= {child, *descendants(child)}
    return found


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
        elif path.suffix == ".npy":
            np.load(path)
        elif path.suffix == ".mp4":
            assert cv2.VideoCapture(str(path)).read()[0], path
