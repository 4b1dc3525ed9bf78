"""From a run to the weights that ship: scoring by recordings, choosing, writing in float16."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from ckd_core.data.footage import recording_footage, synthetic_recordings
from ckd_core.data.open_sequences import VALIDATION, open_sequences
from ckd_core.data.real.features import FeatureSource
from ckd_core.evaluation.footage_score import DEGRADED_COLOR, masked, success, with_degraded_color
from ckd_core.evaluation.running.conditions import RGB_ALONE, parse_condition
from ckd_core.frame import BoundingBox
from ckd_core.models.checkpoint import WeightsFileError, load_model, load_tensors, metadata_of, save_model
from ckd_core.models.registry import build_model
from ckd_core.settings import SettingsError, read_settings, to_plain
from ckd_core.tracking.tracker import Tracker
from ckd_core.training.choice import CHOSEN, ChoiceError, averaged_network, choose, ship
from ckd_core.training.config import ChoiceSettings, InitSettings, TrainSettings, WeightsShare
from ckd_core.training.run_state import export
from ckd_core.training.state_file import RunStateError, load_checkpoint, part, save_checkpoint
from testkit.small_scenes import write_scene
from testkit.training import runs

FEW = ChoiceSettings(clips=2, clip_frames=5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """A finished run of a small CKD network with two epochs kept."""
    chosen = runs.settings(
        tmp_path_factory.mktemp("run"), "ckd_s128", run__checkpoint_every=1, optim__ema_decay=0.5,
        run__samples_per_epoch=4, run__batch_size=2,
        optim__groups=[{"contains": ["branch", "teacher", "box_head"], "lr": 1e-3}],
    )  # fmt: skip
    chosen = replace(chosen, choice=FEW, model=replace(chosen.model, notice="synthetic squares, no rights reserved"))
    runs.run(chosen)
    return chosen


def test_the_best_checkpoint_is_chosen_by_tracking(trained: TrainSettings) -> None:
    ranked = choose(trained)
    assert {c.step for c in ranked} == {2, 4}  # `last` is the second epoch's and counts once
    assert ranked[0].total >= ranked[1].total
    network, metadata = load_model(trained.run.out / CHOSEN, model="ckd_s128")
    assert not network.config.teachers
    assert f"for {ranked[0].step} steps" in metadata.source
    assert metadata.tracking == {"published_geometry": False}  # synthetic pairs have exact crops
    stored, _ = load_checkpoint(trained.run.out / "checkpoints" / f"{ranked[0].name}.safetensors")
    average = part(stored, "average")["box_head.conv5_ctr.weight"]
    assert torch.equal(network.state_dict()["box_head.conv5_ctr.weight"], average)
    clips = synthetic_recordings(9000, 977, 2, 5)
    again = np.mean([success(network, clip, published_geometry=False) for clip in clips])
    assert ranked[0].total == pytest.approx(again)


def test_chosen_weights_are_an_average_with_those_that_the_recipe_names(trained: TrainSettings, tmp_path: Path) -> None:
    chosen = replace(trained, run=replace(trained.run, out=tmp_path / "run"))
    shutil.copytree(trained.run.out / "checkpoints", chosen.run.out / "checkpoints")
    others, shares = [build_model("ckd_s128", teachers=False) for _ in range(2)], (0.5, 0.25)
    named = [WeightsShare(tmp_path / f"{index}.safetensors", share) for index, share in enumerate(shares)]
    for other, network in zip(named, others, strict=True):
        save_model(other.file, network, metadata_of(network, ["thermal"], "test"))
    chosen = replace(chosen, choice=replace(FEW, averaged_with=tuple(named)))
    best = choose(chosen)[0]
    network, _ = load_model(chosen.run.out / CHOSEN, model="ckd_s128")
    own = averaged_network(chosen.run.out / "checkpoints" / f"{best.name}.safetensors")[0].state_dict()
    compared = 0
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            parts = [0.25 * own[name], *(w * other.state_dict()[name] for w, other in zip(shares, others, strict=True))]
            assert torch.allclose(value, sum(parts), atol=1e-6), name
            compared += not torch.equal(parts[1] / 0.5, own[name])
    assert compared > 10
    with pytest.raises(SettingsError, match=r"averaged_with sum to 1\.25; expected less than 1"):
        replace(FEW, averaged_with=(*named, WeightsShare(named[0].file, 0.5)))
    named[0].file.unlink()
    with pytest.raises(WeightsFileError, match=r"0\.safetensors"):
        choose(chosen)


def test_shipped_weights_are_half_as_large_and_say_where_they_come_from(trained: TrainSettings, tmp_path: Path) -> None:
    if not (trained.run.out / CHOSEN).exists():
        choose(trained)
    path, metadata = ship(trained, "a_recipe", tmp_path / "shipped.safetensors")
    full, _ = load_tensors(trained.run.out / CHOSEN)
    half, stored = load_tensors(path)
    assert stored == metadata
    assert stored.source.endswith("recipe a_recipe; synthetic squares, no rights reserved")
    for name, tensor in full.items():
        assert half[name].dtype == (torch.float16 if tensor.is_floating_point() else tensor.dtype)
        torch.testing.assert_close(half[name].to(tensor.dtype), tensor, rtol=1e-3, atol=1e-4)


def test_what_must_not_ship_is_refused(trained: TrainSettings, tmp_path: Path) -> None:
    if not (trained.run.out / CHOSEN).exists():
        choose(trained)
    target = tmp_path / "shipped.safetensors"
    with pytest.raises(ChoiceError, match=r"a_recipe has no model.notice"):
        ship(replace(trained, model=replace(trained.model, notice="")), "a_recipe", target)
    with pytest.raises(ChoiceError, match="holds ckd_s128; a_recipe is a recipe of sdstrack_s128"):
        ship(replace(trained, model=replace(trained.model, name="sdstrack_s128")), "a_recipe", target)
    elsewhere = replace(trained, run=replace(trained.run, out=tmp_path))
    with pytest.raises(WeightsFileError, match=r"chosen.safetensors cannot be read"):
        ship(elsewhere, "a_recipe", target)
    network, recipe, _ = averaged_network(trained.run.out / "checkpoints" / "last.safetensors")
    with torch.no_grad():
        network.get_parameter("rgb_branch.temperature").fill_(1e6)
    export(tmp_path / CHOSEN, network, recipe, 4, {})
    with pytest.raises(ChoiceError, match=r"rgb_branch.temperature reaches 1e\+06; float16 holds at most 65504"):
        ship(elsewhere, "a_recipe", target)
    assert not target.exists()


def test_nothing_to_choose_from_is_an_error(trained: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(ChoiceError, match=r"holds no epoch_NNNN.safetensors and no last.safetensors; train first"):
        choose(replace(trained, run=replace(trained.run, out=tmp_path)))
    with pytest.raises(ChoiceError, match=r"choice.sequences is empty and choice.clips is 0"):
        choose(replace(trained, choice=ChoiceSettings(clips=0)))
    (tmp_path / "checkpoints").mkdir()
    tensors, state = load_checkpoint(trained.run.out / "checkpoints" / "last.safetensors")
    lost = {name: value for name, value in tensors.items() if not name.endswith("box_head.conv5_ctr.weight")}
    save_checkpoint(tmp_path / "checkpoints" / "last.safetensors", lost, state)
    with pytest.raises(WeightsFileError, match=r"does not fit ckd_s128: missing box_head.conv5_ctr.weight"):
        averaged_network(tmp_path / "checkpoints" / "last.safetensors")


def test_a_tracker_that_knows_the_truth_scores_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    (recording,) = synthetic_recordings(9000, 977, 1, 6)
    network = build_model("sdstrack_s128")
    truth = iter(recording.boxes[1:])
    real = Tracker.update

    def knowing(tracker: Tracker, frame: object) -> object:
        answer = real(tracker, frame)  # type: ignore[arg-type]  # a frame
        return replace(answer, box=BoundingBox(*next(truth)))

    monkeypatch.setattr(Tracker, "update", knowing)
    assert success(network, recording, published_geometry=False) == pytest.approx(20 / 21)  # IoU 1 is not above 1


def test_clips_repeat_and_lose_a_camera() -> None:
    one, two = (synthetic_recordings(5, 6, 3, 3) for _ in range(2))
    assert len({r.modality for r in one}) == 3
    for a, b in zip(one, two, strict=True):
        assert a.name == b.name
        assert np.array_equal(a.boxes, b.boxes)
        assert all(np.array_equal(a.frame(i).rgb, b.frame(i).rgb) for i in range(len(a)))
    blind = masked(one[0], RGB_ALONE)
    assert blind.frame(0).aux is not None
    assert all(blind.frame(i).aux is None and blind.frame(i).rgb is not None for i in range(1, len(blind)))


def test_degraded_color_leaves_the_start_and_the_other_camera(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "walk", frames=20)
    clean = recording_footage(folder)
    degraded = with_degraded_color(folder)
    assert [one.name for one in degraded] == [f"walk {parse_condition(text)}" for text in DEGRADED_COLOR]
    for one in degraded:
        assert np.array_equal(one.frame(0).rgb, clean.frame(0).rgb)
        assert np.abs(one.frame(19).rgb.astype(float) - clean.frame(19).rgb).mean() > 10
        assert np.array_equal(one.frame(19).aux, clean.frame(19).aux)
    assert with_degraded_color(write_scene(tmp_path / "mono", aux=None)) == []


def test_the_verbs(trained: TrainSettings, tmp_path: Path) -> None:
    recipe = tmp_path / "squares.yaml"
    recipe.write_text(yaml.safe_dump(to_plain(trained)))
    app, out = build_app(ckd_core.commands), f"run.out={trained.run.out}"
    less = ["choice.sequences=[]", "choice.clips=1", "choice.clip_frames=3"]
    chosen = CliRunner().invoke(app, ["choose", str(recipe), out, *less])
    assert chosen.exit_code == 0, chosen.output
    assert "best: " in chosen.output
    shipped = CliRunner().invoke(app, ["ship", str(recipe), out, "--out", str(tmp_path / "a.safetensors")])
    assert shipped.exit_code == 0, shipped.output
    assert "recipe squares" in load_tensors(tmp_path / "a.safetensors")[1].source
    scored = ["score-clips", "--model", "ckd_s128", "--weights", str(tmp_path / "a.safetensors"), "--clips", "3"]
    table = CliRunner().invoke(app, [*scored, "--frames", "3"])
    assert table.exit_code == 0, table.output
    assert table.output.count("\n| ") == 4
    assert "nan" not in table.output
    demanding = CliRunner().invoke(app, [*scored, "--frames", "3", "--no-one-camera", "--at-least", "0.99"])
    assert demanding.exit_code == 1
    assert "expected at least 0.99" in demanding.output


def test_a_run_is_not_chosen_from_under_the_name_of_another_recipe(trained: TrainSettings) -> None:
    other = replace(trained, optim=replace(trained.optim, weight_decay=0.5))
    with pytest.raises(RunStateError, match=r"another configuration .*optim.weight_decay: 0.0001 there, 0.5"):
        choose(other)


def test_an_average_of_tied_students_is_loaded(tmp_path: Path) -> None:
    chosen = runs.settings(tmp_path, "ckd_tiny_test", model__overrides={"shared_student": True, "teachers": True},
                           optim__ema_decay=0.5, run__epochs=1)  # fmt: skip
    one, _ = runs.run(chosen)
    assert one.average is not None
    network, _, step = averaged_network(one.last)
    assert step == 3
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, one.average.values[name]), name


def test_shipped_recipes_name_their_licences_and_never_choose_by_the_final_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(tmp_path))  # nothing is read from it here
    config = Path(__file__).parents[3] / "config"
    validation = set(open_sequences().names(VALIDATION))
    for path in (config / "train").glob("default_*.yaml"):
        settings = read_settings(path, TrainSettings)
        assert "M3SVD (MIT" in settings.model.notice
        chosen_by = {folder.name for folder in settings.choice.sequences}
        assert chosen_by
        assert chosen_by <= validation


def test_the_second_training_of_the_default_goes_on_where_the_first_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(tmp_path))  # nothing is read from it here
    folder = Path(__file__).parents[3] / "config" / "train"
    first, second = (
        read_settings(folder / f"{name}_sdstrack_m256.yaml", TrainSettings) for name in ("first", "default")
    )
    assert second.model.init == InitSettings("weights", str(first.run.out / "final.safetensors"))
    files = [other.file for other in second.choice.averaged_with]
    assert first.run.out / "final.safetensors" in files
    for before, after in zip(first.data.train, second.data.train, strict=True):
        assert isinstance(before, FeatureSource)
        assert isinstance(after, FeatureSource)
        assert before.tracks == after.tracks, "labelled once"
        assert before.cache != after.cache
