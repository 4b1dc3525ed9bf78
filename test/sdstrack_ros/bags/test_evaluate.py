from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ckd_core import background
from ckd_core.errors import TrackingError
from sdstrack_ros.bags.evaluate import EvaluateRequest, evaluate
from sdstrack_ros.bags.writer import write_bag
from testkit.bags.scenes import COUNT, walking_square


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", *walking_square())


@dataclass(frozen=True)
class Weights:
    path: Path
    model: str

    def settings(self, modality: str) -> dict[str, str]:
        """Node parameters; the plain engine has nothing to compile."""
        plain = {"device": "cpu", "engine": "torch/fp32", "modality": modality}
        return {"model": self.model, "weights": str(self.path), **plain}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    name = "sdstrack_tiny_test"
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model(name, seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return Weights(path, name)


def test_the_same_recording_gives_byte_identical_results_with_a_real_network(
    recording: Path, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read ahead the first time, without that the second time."""
    overrides = weights.settings("thermal")
    outputs = []
    for run, waiting in (("a", 4), ("b", 0)):
        monkeypatch.setattr(background, "WAITING", waiting)
        lines = list(
            evaluate(EvaluateRequest(recording, overrides=overrides, out=tmp_path / run, latency_s=0.05, realtime=True))
        )
        outputs.append(
            [(tmp_path / run / name).read_bytes() for name in ("result.json", "boxes.txt", "streaming.json")]
        )
        assert any("every frame: AUC" in line for line in lines)
        assert any("price of being late" in line for line in lines)
    assert outputs[0] == outputs[1]
    result = json.loads(outputs[0][0])
    assert len(result["frames"]) == len(outputs[0][1].splitlines()) == COUNT
    assert result["synchronizer"]["paired"] == COUNT
    assert str(tmp_path) not in outputs[0][0].decode()


def test_the_command_line_evaluates_with_a_parameter_file(recording: Path, weights: Weights, tmp_path: Path) -> None:
    import sdstrack_ros.commands
    from ckd_core.cli import build_app

    config = tmp_path / "node.yaml"
    config.write_text(
        "/**:\n  ros__parameters:\n    modality: thermal\n    device: cpu\n    engine: torch/fp32\n"
        f"    model: {weights.model}\n    weights: {weights.path}\n    rgb_topic: /camera/color/image_raw\n"
    )
    app = build_app(sdstrack_ros.commands)
    words = ["evaluate", str(recording), "--config", str(config)]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"{COUNT} frames: {COUNT} pairs" in done.output
    assert (tmp_path / "out" / "result.json").exists()
    refused = CliRunner().invoke(app, [*words, "--rgb", "/none"])
    assert isinstance(refused.exception, TrackingError)
    assert "no topic '/none'; its topics are:" in str(refused.exception)


def test_an_evaluation_says_that_weights_are_of_another_camera(
    recording: Path, weights: Weights, tmp_path: Path
) -> None:
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    path, model = tmp_path / "rgbd.safetensors", build_model(weights.model, seed=3)
    save_model(path, model, metadata_of(model, ["depth"], "seeded random numbers"))
    overrides = {**weights.settings("thermal"), "weights": str(path)}
    del overrides["model"]  # the weights name it
    lines = list(evaluate(EvaluateRequest(recording, overrides=overrides)))
    (warning,) = (line for line in lines if "was trained with depth cameras, and this is thermal" in line)
    assert warning.startswith("warning: ")
    permitted = list(evaluate(EvaluateRequest(recording, overrides=overrides, any_modality=True, out=tmp_path / "out")))
    assert any("every frame: AUC" in line for line in permitted)
    assert not any("was trained with" in line for line in permitted)
    about = json.loads((tmp_path / "out" / "result.json").read_text())
    assert about["any_modality"] is True
    assert about["model"] == weights.model


@pytest.mark.shared
def test_a_real_recording_is_evaluated_completely(shared_data: Path, weights: Weights, tmp_path: Path) -> None:
    bag = shared_data / "bags" / "rgbt_clip_0111_1753_mcap_compressed"
    truth = shared_data / "sequences" / "rgbt_m3svd_clip_0111_1753" / "groundtruth.txt"
    overrides = weights.settings("thermal")
    lines = list(
        evaluate(
            EvaluateRequest(bag, overrides=overrides, truth_file=truth, out=tmp_path, realtime=True, latency_s=0.04)
        )
    )
    assert any(line.startswith("20 frames: 20 pairs") for line in lines)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["summary"]["frames"] == 19
    assert result["rejected"] == {}
