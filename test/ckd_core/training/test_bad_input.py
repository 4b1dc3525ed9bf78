"""What goes wrong around a training run ends in one clear line, and whatever was learnt stays on disk.

A full disk, a killed worker, broken and foreign checkpoints are in test_loop.py; boxes and frames in test_sampler.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from ckd_core.data.layouts import DatasetError
from ckd_core.data.pairs import PairError, TrainingSample
from ckd_core.data.sequences import SequenceError
from ckd_core.errors import TrackingError
from ckd_core.models.checkpoint import WeightsFileError
from ckd_core.settings import SettingsError, build, read_settings, to_plain
from ckd_core.training.batches import BatchError
from ckd_core.training.build import build_trainer
from ckd_core.training.choice import choose
from ckd_core.training.config import TrainSettings
from ckd_core.training.state_file import RunStateError, load_checkpoint
from testkit.training import runs

ROOT = Path(__file__).parents[3]
FOLDER = {"kind": "sequences", "dataset": "folder"}


def sequence(folder: Path, frames: int = 24, box: str = "20,30,24,20") -> Path:
    """A still scene in the plain layout, the same box in every frame."""
    rng = np.random.default_rng(0)
    for name in ("visible", "infrared"):
        (folder / name).mkdir(parents=True)
        image = rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)
        for i in range(frames):
            cv2.imwrite(str(folder / name / f"{i:04d}.jpg"), image)
    (folder / "groundtruth.txt").write_text(f"{box}\n" * frames)
    return folder


def changed(out: Path, **changes: Any) -> TrainSettings:
    return runs.settings(out, **changes)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ({**FOLDER, "root": "nowhere"}, DatasetError, r"no folder nowhere for dataset folder"),
        (
            {"kind": "sequences", "dataset": "lasher", "root": ".", "split": "train"},
            DatasetError,
            r"holds no sequence of lasher|no folder",
        ),
        (
            {"kind": "sequences", "dataset": "lasar", "root": "."},
            DatasetError,
            r"unknown dataset 'lasar'; expected one of",
        ),
        ({"kind": "synthetic", "rgbt_folders": ["gone"]}, PairError, r"no gone/visible, gone/infrared; expected what"),
        ({"kind": "synthetic", "rgbt_videos": ["gone"]}, PairError, r"no gone_visible.mp4, gone_infrared.mp4"),
    ],
)
def test_wrong_paths_are_found_before_training(
    source: dict[str, Any], error: type[TrackingError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        build_trainer(changed(tmp_path / "run", data__train=[source]))
    assert not (tmp_path / "run").exists()


def test_wrong_paths_of_weights_and_choices(tmp_path: Path) -> None:
    gone = {"kind": "weights", "file": "gone.safetensors"}
    with pytest.raises(WeightsFileError, match=r"gone.safetensors cannot be read"):
        build_trainer(changed(tmp_path, model__init=gone))
    with pytest.raises(RunStateError, match=r"no checkpoint at gone.safetensors"):
        build_trainer(changed(tmp_path, model__init={"kind": "checkpoint", "file": "gone.safetensors"}))
    runs.run(changed(tmp_path, run__epochs=1))
    with pytest.raises(SequenceError, match=r"no folder .*gone"):
        choose(changed(tmp_path, choice={"sequences": [str(tmp_path / "gone")], "clips": 0}))


def test_an_output_that_cannot_be_written_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    requested = []

    class Counting(runs.BrightSquares):
        def __getitem__(self, index: int) -> TrainingSample:
            requested.append(index)
            return super().__getitem__(index)

    with pytest.raises(TrackingError, match=r"cannot write to .*file"):
        runs.trainer(changed(tmp_path / "file" / "run"), Counting()).run()
    assert not requested


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.groups.9.lr=1e-4", "optim.groups has 1 entries; expected an index below"),
        ("optim.groups.first.lr=1e-4", "optim.groups has 1 entries; expected an index below"),
        ("optim.groups=[]", "'groups' is empty; expected at least one"),
        ("objective.kind=[x]", r"'objective.kind' is \['x'\]; expected one of"),
        ("optim.groups.0.lr=.nan", "lr' is nan; expected a finite number"),
    ],
)
def test_changes_that_fit_nothing_are_one_line(change: str, message: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(to_plain(changed(tmp_path))))
    with pytest.raises(SettingsError, match=message):
        read_settings(config, TrainSettings, [change])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"drop_path": "abc"}, "'model.overrides.drop_path' is 'abc' .*expected a number"),
        ({"width": "nine"}, "'model.overrides.width' is 'nine' .*expected an integer"),
        ({1: 2}, "unknown key 'model.overrides.1'"),
    ],
)
def test_overrides_of_a_wrong_type(overrides: dict[Any, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        build_trainer(changed(tmp_path, model__overrides=overrides, data__train=[{"kind": "synthetic"}]))


def test_sources_that_give_nothing_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence(tmp_path / "data" / "walk")
    with pytest.raises(PairError, match="every source of sequences has the ratio 0"):
        build_trainer(changed(tmp_path, data__train=[{**FOLDER, "root": str(tmp_path / "data"), "ratio": 0}]))
    with pytest.raises(PairError, match=r"lasher at .* has no 'split'; expected one of train, test"):
        build_trainer(changed(tmp_path, data__train=[{**FOLDER, "dataset": "lasher", "root": str(tmp_path)}]))
    with pytest.raises(SettingsError, match=r"options.center_jitter' is -1.0; expected 0.0 to 8.0"):
        build_trainer(changed(tmp_path, data__train=[{"kind": "synthetic", "options": {"center_jitter": -1}}]))
    monkeypatch.setattr("ckd_core.data.synthetic.textures.PACKAGE_IMAGES", {"no_such_package": ()})
    monkeypatch.setattr("ckd_core.data.synthetic.textures.PACKAGES", {"no_such_package": "no-such-package"})
    with pytest.raises(PairError, match="no package no-such-package"):
        build_trainer(changed(tmp_path, data__train=[{"kind": "synthetic", "textures": "packages"}]))


def test_empty_datasets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty holds no sequence of folder: expected SEQUENCE/groundtruth.txt"):
        build_trainer(changed(tmp_path / "run", data__train=[{**FOLDER, "root": str(tmp_path / "empty")}]))
    sequence(tmp_path / "short" / "walk", frames=6)
    with pytest.raises(PairError, match=r"none of the 1 sequences of folder can be used; expected at least 20 frames"):
        build_trainer(changed(tmp_path / "run", data__train=[{**FOLDER, "root": str(tmp_path / "short")}]))
    with pytest.raises(PairError, match="expected at least one"):
        build_trainer(changed(tmp_path / "run", data__train=[]))


def test_boxes_outside_their_images_stop_the_run_with_their_numbers(tmp_path: Path) -> None:
    sequence(tmp_path / "data" / "walk", box="900,30,24,20")
    one = build_trainer(changed(tmp_path / "run", data__train=[{**FOLDER, "root": str(tmp_path / "data")}]))
    with pytest.raises(BatchError, match=r"folder/walk frames .*box xywh \(900.0, .* lies outside its 128 x 96 image"):
        one.run()
    assert load_checkpoint(one.last)[1]["step"] == 0


class GrowsLater(runs.BrightSquares):
    """Pairs whose search image has another size from one index on."""

    def __getitem__(self, index: int) -> TrainingSample:
        sample = super().__getitem__(index)
        if index < 9:
            return sample
        wide = torch.zeros(6, 160, 160)
        return TrainingSample(sample.template, wide, sample.template_box, sample.search_box, f"wide {index}")


def test_mismatched_pair_sizes_stop_resumably(tmp_path: Path) -> None:
    one = runs.trainer(changed(tmp_path), GrowsLater())
    with pytest.raises(
        BatchError, match=r"differ in size.*\[6, 160, 160\] \(wide 9\).*State of step 2 saved.*--resume"
    ):
        one.run()
    again = runs.trainer(changed(tmp_path))
    again.resume()
    assert again.run().steps == 6


def sdstrack(config: Path, *options: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "ckd_core.cli", "train", str(config), *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_ctrl_c_then_resume_on_the_command_line(tmp_path: Path) -> None:
    """The real command with a data worker: one line, exit status 1, a state on disk; --resume ends the run."""
    chosen = changed(
        tmp_path / "run", run__workers=1, run__samples_per_epoch=4000, run__epochs=1, run__checkpoint_minutes=0.0
    )
    plain = to_plain(chosen)
    assert build(TrainSettings, plain, "again") == chosen
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(plain))
    first = sdstrack(config, "--resume")  # nothing to go on from yet: it begins
    deadline = time.monotonic() + 240
    last = tmp_path / "run" / "checkpoints" / "last.safetensors"
    while not last.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 1, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "SIGINT" in line
    assert "--resume" in line
    assert "Traceback" not in errors
    stopped = int(load_checkpoint(last)[1]["step"])
    assert 0 < stopped < 1000

    again = sdstrack(config)
    assert again.wait(timeout=240) == 1
    assert "exists already; go on with --resume" in again.stderr.read()  # type: ignore[union-attr]  # a pipe
    again.communicate()
    more = sdstrack(config, f"run.stop_after_minutes={1 / 6000}", "--resume")
    _, errors = more.communicate(timeout=240)
    assert "stop_after_minutes" in errors
    assert int(load_checkpoint(last)[1]["step"]) > stopped
