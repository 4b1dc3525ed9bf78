from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ckd_core.data.pairs import PairError, TrainingSample
from ckd_core.models.checkpoint import WeightsFileError, load_model
from ckd_core.training.batches import BatchError, StepIndices
from ckd_core.training.loop import TrainingDivergedError, TrainingError, TrainingInterruptedError
from ckd_core.training.state_file import RunStateError, load_checkpoint
from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.training import runs

MODELS = ("sdstrack_tiny_test", "ckd_tiny_test")


def assert_equal_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        if tolerance:
            torch.testing.assert_close(
                value, b[name], rtol=tolerance, atol=tolerance * 1e-2, msg=lambda m, n=name: f"{n}: {m}"
            )
        else:
            assert torch.equal(value, b[name]), f"{name} differs by {(value.float() - b[name].float()).abs().max()}"


class StopAt:
    """Pairs that deliver SIGINT to this process when a certain index is asked for."""

    def __init__(self, index: int) -> None:
        self.index, self.pairs = index, runs.BrightSquares()

    def __getitem__(self, index: int) -> TrainingSample:
        if index == self.index:
            os.kill(os.getpid(), signal.SIGINT)
        return self.pairs[index]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stop_step", [1, 3, 4])
def test_interrupted_and_resumed_equals_uninterrupted(model: str, stop_step: int, tmp_path: Path) -> None:
    """Drop path, masks, average, warm-up and the elimination schedule are all on; every bit must be the same."""
    options: dict[str, Any] = {
        "model__overrides": {"drop_path": 0.3} | ({"teachers": True} if model.startswith("ckd") else {}),
        "optim__ema_decay": 0.9,
        "optim__schedule": {"kind": "cosine", "warmup_steps": 2},
        "optim__keep_rate": {"rate": 0.7, "start": 1, "warm": 1},
        "optim__accumulation": 2,
    }
    if model.startswith("ckd"):
        options["model__overrides"]["ce_blocks"] = [1, 2]
    whole, _ = runs.run(runs.settings(tmp_path / "whole", model, **options))
    chosen = runs.settings(tmp_path / "parts", model, **options)
    first = runs.trainer(chosen, StopAt((stop_step - 1) * 4 + 2))
    with pytest.raises(TrainingInterruptedError, match=f"stopped at step {stop_step} of 6 .*SIGINT.*--resume"):
        first.run()
    second = runs.trainer(chosen)
    with torch.no_grad():
        for parameter in second.network.parameters():
            parameter.add_(1.0)  # what a fresh start has must not matter
    second.resume()
    assert second.step == stop_step
    second.run()
    assert_equal_weights(runs.weights(whole), runs.weights(second))
    assert_equal_weights(whole.average.values, second.average.values)
    for key, value in runs.optim.optimizer_tensors(whole.optimizer, whole.names).items():
        assert torch.equal(value, runs.optim.optimizer_tensors(second.optimizer, second.names)[key]), key


def test_accumulated_parts_equal_the_whole_batch(tmp_path: Path) -> None:
    one, _ = runs.run(runs.settings(tmp_path / "one"))
    two, _ = runs.run(runs.settings(tmp_path / "two", optim__accumulation=2))
    assert_equal_weights(runs.weights(one), runs.weights(two), 2e-3)


def train_in_two_processes(folder: Path, *broken: str) -> dict[str, str]:
    """Run two_processes.py under torchrun with gloo; return what each rank said."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    both = subprocess.run(
        [*launch, "testkit.training.two_processes", str(folder), *broken],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert both.returncode == 0, both.stderr[-3000:]
    return dict(line.split(": ", 1) for line in both.stdout.splitlines() if line.startswith("rank "))


# What a rank says begins so when nothing keeps gloo alive: see processes.leave.
FIRST, SECOND = (f"rank {rank} (0 wrappers held)" for rank in range(2))


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Some samples have no target, so the processes have different numbers of positives."""
    assert train_in_two_processes(tmp_path / "two") == {FIRST: "trained", SECOND: "trained"}
    one, summary = runs.run(
        runs.settings(tmp_path / "one", run__val_every=1), pairs=runs.SomeAbsent(), val_pairs=runs.BrightSquares(7)
    )
    tensors, state = load_checkpoint(tmp_path / "two" / "checkpoints" / "last.safetensors")
    own = {f"model/{name}": value for name, value in runs.weights(one).items()}
    assert state["step"] == summary.steps == 6
    assert_equal_weights({k: v for k, v in tensors.items() if k.startswith("model/")}, own, 2e-3)
    assert state["best"] == pytest.approx(summary.best, abs=1e-3)


@pytest.mark.parametrize(
    ("how", "own", "other"),
    [
        ("missing", "pair 11 is broken", "another process failed"),
        ("nan", "training diverged at step 2", "the exchange with another process failed"),
    ],
)
def test_an_error_in_one_process_ends_both_with_a_state(how: str, own: str, other: str, tmp_path: Path) -> None:
    outputs = train_in_two_processes(tmp_path, "11", how)
    assert outputs[SECOND].startswith(own)
    assert outputs[FIRST].startswith(other)
    assert "State of step 2 saved; go on with --resume" in outputs[FIRST]
    assert load_checkpoint(tmp_path / "checkpoints" / "last.safetensors")[1]["step"] == 2


@pytest.mark.parametrize(
    ("model", "lr"),
    [
        ("sdstrack_tiny_test", 1e-3),
        pytest.param("ckd_tiny_test", 1e-2, marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG)),
    ],
)
def test_overfitting_one_batch_finds_the_boxes(model: str, lr: float, tmp_path: Path) -> None:
    """CKD: unmasked, and a head wide enough that BatchNorm leaves it something to say."""
    is_ckd = model.startswith("ckd")
    steps = 220 if is_ckd else 120
    wide = {"teachers": True, "mask_ratio": 0.0, "head_channels": 256} if is_ckd else {}
    chosen = runs.settings(
        tmp_path,
        model,
        model__overrides={"drop_path": 0.0, **wide},
        run__epochs=1,
        run__batch_size=2,
        run__samples_per_epoch=2 * steps,
        run__log_every=1000,
        optim__schedule={"kind": "cosine", "warmup_steps": 10, "final": 0.1},
        optim__clip_norm=1000.0 if is_ckd else 1.0,
        optim__groups=[{"contains": [""], "lr": lr}],
    )
    values = runs.trainer(chosen, runs.BrightSquares(period=2)).run().values
    assert values["iou"] > 0.95, f"IoU on the one batch is {values['iou']:.3f} after {steps} steps"


def test_exported_weights_track_and_hold_the_average(tmp_path: Path) -> None:
    one, _ = runs.run(
        runs.settings(tmp_path, "ckd_tiny_test", optim__ema_decay=0.5, run__val_every=1),
        val_pairs=runs.BrightSquares(7),
    )
    for name in ("final", "best"):
        network, metadata = load_model(tmp_path / f"{name}.safetensors", model="ckd_tiny_test", modality="thermal")
        assert not network.config.teachers
        assert "val/iou" in metadata.source
    weight = load_model(tmp_path / "final.safetensors")[0].state_dict()["box_head.conv5_ctr.weight"]
    assert torch.equal(weight, one.average.values["box_head.conv5_ctr.weight"])
    assert (tmp_path / "checkpoints" / "best.safetensors").is_file()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_every_nth_epoch_is_kept(tmp_path: Path) -> None:
    runs.run(runs.settings(tmp_path, run__epochs=4, run__checkpoint_every=2))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["epoch_0002.safetensors", "epoch_0004.safetensors", "last.safetensors"]


def test_time_limit_stops_resumably(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterruptedError, match=r"stop_after_minutes 0 are over.*--resume"):
        runs.run(runs.settings(tmp_path, run__stop_after_minutes=0.0))
    again = runs.trainer(runs.settings(tmp_path))
    again.resume()
    assert again.step == 1


class NotFinite:
    def __getitem__(self, index: int) -> TrainingSample:
        sample = runs.BrightSquares()[index]
        if index == 9:
            sample.search[0, 0, 0] = 3e38  # a pixel that overflows to infinity inside the network
        return sample


def test_divergence_stops_with_the_batch_on_disk(tmp_path: Path) -> None:
    one = runs.trainer(runs.settings(tmp_path), NotFinite())
    with pytest.raises(TrainingDivergedError, match=r"step 2: .*bad_batch_step_2_rank_0") as caught:
        one.run()
    stored, state = load_checkpoint(tmp_path / "bad_batch_step_2_rank_0.safetensors")
    assert stored["index"].tolist() == [8, 9, 10, 11]
    assert state["sources"] == [f"square {i}" for i in (8, 9, 10, 11)]
    assert "--resume" in str(caught.value)
    assert all(torch.isfinite(value).all() for value in runs.weights(one).values() if value.is_floating_point())


class KillsItsWorker:
    def __getitem__(self, index: int) -> TrainingSample:
        if index == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return runs.BrightSquares()[index]


def test_killed_data_worker_leaves_a_state(tmp_path: Path) -> None:
    one = runs.trainer(runs.settings(tmp_path, run__workers=1), KillsItsWorker())
    with pytest.raises(BatchError, match=r"a data worker died.*run.workers.*--resume"):
        one.run()
    again = runs.trainer(runs.settings(tmp_path))
    again.resume()
    assert again.step == one.step


class Broken:
    def __getitem__(self, index: int) -> TrainingSample:
        if index == 5:
            raise PairError("no usable pair for index 5 in 20 draws; the last: lasher/cat: image.jpg is broken")
        return runs.BrightSquares()[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_cannot_be_made_stops_with_its_reason_only(workers: int, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"^no usable pair for index 5 .*image.jpg is broken. State of step 1 saved"):
        runs.trainer(runs.settings(tmp_path, run__workers=workers), Broken()).run()


class Skipping:
    def __getitem__(self, index: int) -> TrainingSample:
        sample = runs.BrightSquares()[index]
        frames = (f"lasher/cat frames 3, {index}: cannot read",) if index % 20 == 0 else ()
        return TrainingSample(sample.template, sample.search, sample.template_box, sample.search_box, "", frames)


def test_skipped_frames_are_named_and_limited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = runs.settings(tmp_path, run__samples_per_epoch=240, run__max_skipped=0.02, run__batch_size=8)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(TrainingError, match=r"expected at most run.max_skipped = 0.02"),
    ):
        runs.run(chosen, pairs=Skipping())
    assert "lasher/cat frames 3, 20: cannot read" in caplog.text
    calm = runs.settings(
        tmp_path / "calm", run__samples_per_epoch=240, run__max_skipped=0.06, run__batch_size=8, run__epochs=1
    )
    one, _ = runs.run(calm, pairs=Skipping())
    assert one.skipped == 12


def test_a_run_over_the_limit_of_skipped_frames_resumes_as_if_it_had_been_higher(tmp_path: Path) -> None:
    common: dict[str, Any] = {"run__samples_per_epoch": 240, "run__batch_size": 8, "run__epochs": 1}
    whole, _ = runs.run(runs.settings(tmp_path / "a", run__max_skipped=0.06, **common), pairs=Skipping())
    with pytest.raises(TrainingError, match="max_skipped"):
        runs.run(runs.settings(tmp_path / "b", run__max_skipped=0.02, **common), pairs=Skipping())
    again = runs.trainer(runs.settings(tmp_path / "b", run__max_skipped=0.06, **common), Skipping())
    again.resume()
    again.run()
    assert_equal_weights(runs.weights(whole), runs.weights(again))
    assert again.skipped == whole.skipped


@pytest.mark.parametrize("at", ["validation", "export"])
def test_a_resumed_run_repeats_what_the_end_of_an_epoch_did_not_finish(at: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"run__epochs": 1, "run__val_every": 1, "run__checkpoint_every": 1}
    obstacle = tmp_path / "final.safetensors"  # a folder of this name: the export cannot be renamed to it
    if at == "export":
        obstacle.mkdir()
    pairs = {"val_pairs": Broken() if at == "validation" else runs.BrightSquares(7)}
    with pytest.raises(BatchError if at == "validation" else WeightsFileError):
        runs.run(runs.settings(tmp_path, **options), **pairs)
    assert not obstacle.is_file()
    if at == "export":
        obstacle.rmdir()
    again = runs.trainer(runs.settings(tmp_path, **options), val_pairs=runs.BrightSquares(7))
    again.resume()
    assert again.step == 3
    summary = again.run()
    assert summary.best is not None
    for name in ("final", "best", "checkpoints/epoch_0001", "checkpoints/best"):
        assert (tmp_path / f"{name}.safetensors").is_file(), name


def test_a_failed_export_saves_no_second_time_on_what_may_be_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "final.safetensors").mkdir()
    with pytest.raises(WeightsFileError, match=r"final\.safetensors cannot be written") as failure:
        runs.run(runs.settings(tmp_path, run__epochs=1, run__checkpoint_every=1))
    assert "saved" not in str(failure.value)
    folder = tmp_path / "checkpoints"
    # One file under two names, as the end of the epoch left them; another save would have replaced `last`.
    assert (folder / "last.safetensors").samefile(folder / "epoch_0001.safetensors")


def test_pictures_of_a_batch_in_parts(tmp_path: Path) -> None:
    one, _ = runs.run(runs.settings(tmp_path, optim__accumulation=4, run__images_every=1, run__epochs=1))
    assert one.step == 3


def test_the_average_of_a_short_run_is_the_mean_of_its_weights(tmp_path: Path) -> None:
    name, history = "box_head.conv5_ctr.weight", []
    one = runs.trainer(runs.settings(tmp_path, optim__ema_decay=0.99, run__epochs=1))
    update = one.average.update

    def watched(network: torch.nn.Module, step: int) -> None:
        history.append(network.state_dict()[name].clone())
        update(network, step)

    one.average.update = watched  # type: ignore[method-assign]
    one.run()
    torch.testing.assert_close(one.average.values[name], torch.stack(history).mean(dim=0))


def test_gradients_that_stay_infinite_in_fp16_end_the_run(tmp_path: Path) -> None:
    one = runs.trainer(runs.settings(tmp_path, optim__precision="fp16", run__samples_per_epoch=160, run__epochs=1))
    dict(one.network.named_parameters())["box_head.conv5_ctr.weight"].register_hook(lambda g: g * float("nan"))
    with pytest.raises(TrainingDivergedError, match="gradient norm nan"):
        one.run()
    assert one.step < 40


def test_an_unknown_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"run.best_metric is 'val/typo'; expected val/iou or val/success50"):
        runs.trainer(runs.settings(tmp_path, run__best_metric="val/typo"))


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the write fails half-way with an OS error."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-m", "testkit.training.full_disk", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "RunStateError: cannot save the checkpoint" in done.stdout, done.stdout + done.stderr
    assert "the previous one there is untouched" in done.stdout
    assert not list((tmp_path / "checkpoints").glob(".*"))
    again = runs.trainer(runs.settings(tmp_path, run__epochs=4))
    again.resume()
    assert again.step == 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no checkpoint at"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "cannot read the checkpoint"),
        (lambda path: path.write_bytes(b"not safetensors"), "cannot read the checkpoint"),
    ],
)
def test_broken_checkpoints_are_refused(damage: Any, message: str, tmp_path: Path) -> None:
    chosen = runs.settings(tmp_path, run__epochs=1)
    runs.run(chosen)
    damage(tmp_path / "checkpoints" / "last.safetensors")
    with pytest.raises(RunStateError, match=message):
        runs.trainer(chosen).resume()


def test_checkpoint_of_another_configuration_names_the_keys(tmp_path: Path) -> None:
    runs.run(runs.settings(tmp_path, run__epochs=1))
    with pytest.raises(RunStateError, match=r"optim.weight_decay: 0.0001 there, 0.5 here; run.seed: 0 there, 9 here"):
        runs.trainer(runs.settings(tmp_path, run__epochs=1, run__seed=9, optim__weight_decay=0.5)).resume()
    free = runs.trainer(runs.settings(tmp_path, run__epochs=1, run__workers=1, run__log_every=7))
    free.resume()
    assert free.step == 3
    weights = runs.trainer(runs.settings(tmp_path, run__epochs=1))
    with pytest.raises(RunStateError, match="is not a training checkpoint"):
        weights.resume(tmp_path / "final.safetensors")


def test_batches_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"batch_size 4 does not divide into 1 processes x 3"):
        runs.trainer(runs.settings(tmp_path, optim__accumulation=3))
    with pytest.raises(BatchError, match="batch_size 5 does not divide among 2 processes"):
        StepIndices(0, 1, 5, 0, 2)


def test_shares_of_two_processes_are_the_batch_of_one() -> None:
    one = list(StepIndices(3, 6, 8, 0, 1))
    two = [list(StepIndices(3, 6, 8, rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*two, strict=True)] == one
    assert one[0] == list(range(24, 32))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_learns_and_stays_finite(precision: str, tmp_path: Path) -> None:
    one, summary = runs.run(runs.settings(tmp_path, optim__precision=precision))
    assert summary.steps == 6
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in one.network.parameters())
    again = runs.trainer(one.settings)
    again.resume()
    assert again.scaler.state_dict() == one.scaler.state_dict()


def test_training_works_off_the_main_thread(tmp_path: Path) -> None:
    steps: list[int] = []
    worker = threading.Thread(target=lambda: steps.append(runs.run(runs.settings(tmp_path, run__epochs=1))[1].steps))
    worker.start()
    worker.join()
    assert steps == [3]


def test_checkpoints_hold_no_pickle(tmp_path: Path) -> None:
    runs.run(runs.settings(tmp_path, run__epochs=1))
    tensors = load_file(tmp_path / "checkpoints" / "last.safetensors")
    assert {name.split("/")[0] for name in tensors} == {"model", "optimizer"}
    written = {p for p in tmp_path.rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    assert {p.suffix for p in written} == {".safetensors", ".csv"}  # losses.csv beside the checkpoints


@pytest.mark.parametrize(
    ("flags", "precision", "warned"),
    [("avx2 fma", "bf16", True), ("avx512f avx512_bf16", "bf16", False), ("avx2 fma", "fp32", False)],
)
def test_bf16_on_a_cpu_that_has_no_instructions_for_it_is_said(
    flags: str,
    precision: str,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr("ckd_core.tracking.engines.base.CPU_FLAGS", cpu)
    runs.trainer(runs.settings(tmp_path / "run", optim__precision=precision))
    assert ("optim.precision=fp32" in caplog.text) is warned
