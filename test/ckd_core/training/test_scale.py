"""Long runs on several machines: what is kept, what it takes, where the values go, and more epochs than planned."""

from __future__ import annotations

import csv
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ckd_core.settings import read_settings, to_plain
from ckd_core.training.build import rehearse
from ckd_core.training.config import TrainSettings
from ckd_core.training.reporting import ReportingError, ValueTable
from ckd_core.training.run_state import require_same
from ckd_core.training.state_file import RunStateError, load_checkpoint
from testkit.training import runs

ROOT = Path(__file__).parents[3]


def table(path: Path) -> list[dict[str, str]]:
    with (path / "losses.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    runs.run(runs.settings(tmp_path, run__epochs=4, run__checkpoint_every=1, run__keep_checkpoints=2))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("epoch_*"))
    assert kept == ["epoch_0003.safetensors", "epoch_0004.safetensors"]
    assert (tmp_path / "checkpoints" / "last.safetensors").is_file()


def test_the_plan_says_what_the_checkpoints_take(tmp_path: Path) -> None:
    chosen = runs.settings(tmp_path, run__epochs=30, run__checkpoint_every=1, optim__ema_decay=0.9)
    said = rehearse(runs.trainer(chosen))["disk"]
    runs.run(runs.settings(tmp_path, run__epochs=1, optim__ema_decay=0.9))
    size = (tmp_path / "checkpoints" / "last.safetensors").stat().st_size
    assert float(said.split(" GB")[0]) == pytest.approx(size / 1e9, abs=0.006)
    assert "30 of 30 kept" in said
    assert "TOO LITTLE" not in said
    chosen = runs.settings(tmp_path / "x", run__epochs=10**9, run__checkpoint_every=1)
    assert "TOO LITTLE: set run.keep_checkpoints" in rehearse(runs.trainer(chosen))["disk"]


def test_a_finished_run_goes_on_with_more_epochs(tmp_path: Path) -> None:
    runs.run(runs.settings(tmp_path / "short"))
    longer = runs.trainer(runs.settings(tmp_path / "short", run__epochs=3))
    longer.resume()
    assert longer.step == 6
    longer.run()
    whole, _ = runs.run(runs.settings(tmp_path / "whole", run__epochs=3))
    for name, value in runs.weights(whole).items():
        assert (value == runs.weights(longer)[name]).all(), name
    shorter = runs.trainer(runs.settings(tmp_path / "short"))
    with pytest.raises(RunStateError, match=r"run\.epochs: 3 there, 2 here"):
        shorter.resume()


def test_a_cosine_schedule_has_no_more_epochs_than_planned(tmp_path: Path) -> None:
    options: dict[str, Any] = {"optim__schedule": {"kind": "cosine"}}
    runs.run(runs.settings(tmp_path, **options))
    with pytest.raises(RunStateError, match="a run of 2 epochs with a cosine schedule, which 3 epochs would have made"):
        runs.trainer(runs.settings(tmp_path, run__epochs=3, **options)).resume()


def test_a_checkpoint_from_before_a_key_existed_has_its_default(tmp_path: Path) -> None:
    chosen = runs.settings(tmp_path)
    stored = to_plain(chosen)
    del stored["published"], stored["run"]["keep_checkpoints"], stored["run"]["wandb"]
    require_same(tmp_path / "last.safetensors", stored, chosen)
    stored["optim"]["clip_norm"] = 5.0
    with pytest.raises(RunStateError, match=r"optim.clip_norm: 5.0 there, 0.1 here"):
        require_same(tmp_path / "last.safetensors", stored, chosen)


def test_losses_are_a_table_that_a_resumed_run_continues(tmp_path: Path) -> None:
    chosen = runs.settings(tmp_path, run__val_every=1)
    one = runs.trainer(chosen, val_pairs=runs.BrightSquares(7))
    one.run()
    rows = table(tmp_path)
    steps = [int(row["step"]) for row in rows]
    assert steps == [1, 2, 3, 3, 4, 5, 6, 6], "a row per step, and one per validation"
    assert all(float(row["train/loss"]) > 0 for row in rows if row["train/loss"])
    assert [bool(row["val/iou"]) for row in rows] == [False, False, False, True, False, False, False, True]
    kept = ValueTable(tmp_path / "losses.csv", 4)
    kept.add({"train/loss": 0.5, "new": 2.0}, 5)
    rows = table(tmp_path)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 3, 4, 5]
    assert (rows[-1]["train/loss"], rows[-1]["new"], rows[0]["new"]) == ("0.5", "2", "")
    (tmp_path / "losses.csv").unlink()
    (tmp_path / "losses.csv").mkdir()
    ValueTable(tmp_path / "losses.csv", 4).add({"a": 1.0}, 1)  # a warning, and the run goes on


def test_wandb_gets_the_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs.run(runs.settings(tmp_path, run__wandb="tiny"))
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


def test_a_missing_wandb_is_an_error_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    one = runs.trainer(runs.settings(tmp_path, run__wandb="tiny"))
    with pytest.raises(
        ReportingError, match=r"run.wandb is 'tiny', which needs the package wandb \(pip install wandb\)"
    ):
        one.run()
    assert one.step == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_two_nodes_train_as_one_run(tmp_path: Path) -> None:
    """The command of docs/training.md, both nodes on this machine; what each logs is said once."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"""
model: {{name: sdstrack_tiny_test, modalities: [thermal], overrides: {{drop_path: 0.0}}}}
objective: {{kind: sdstrack}}
data:
  train: [{{kind: synthetic}}]
  val: [{{kind: synthetic}}]
optim: {{groups: [{{contains: [Adapter], lr: 1.0e-3}}], freeze_batch_norm: true}}
run: {{out: {tmp_path}/out, epochs: 1, batch_size: 4, samples_per_epoch: 8, val_samples: 4, workers: 0, log_every: 1,
  images_every: 0, device: cpu}}
"""
    )
    read_settings(recipe, TrainSettings, [])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    port = free_port()
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank),
             "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "ckd_core.cli",
             "train", str(recipe)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [node.communicate(timeout=300)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], said[0][-2000:] + said[1][-2000:]
    assert load_checkpoint(tmp_path / "out" / "checkpoints" / "last.safetensors")[1]["step"] == 2
    assert sum(text.count("epoch 1  val/iou") for text in said) == 1
    assert sum(text.count("step 2 of 2") for text in said) == 1
    assert "2 steps done" in said[0]
    logging.getLogger(__name__).info("%s", said[1])
