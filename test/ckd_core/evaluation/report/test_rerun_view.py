from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.report.rerun_view import write_recording
from ckd_core.evaluation.running.conditions import parse_condition
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.manifest import ManifestError
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(find_spec("rerun") is None, reason="the optional package rerun-sdk is not installed")


def rrd(verb: str, file: Path) -> str:
    """What rerun's own tool says about a recording."""
    command = [sys.executable, "-m", "rerun", "rrd", verb, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_recording_holds_images_boxes_and_scores(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    run = tmp_path / "run"
    dataset = open_dataset("folder", scenes).select(["a", "d"])
    condition = parse_condition("full")
    run_benchmark(RunPlan(open_inputs(dataset), ModelSpec(TINY, tiny_weights), run, condition, device="cpu", threads=1))
    outcome = CliRunner().invoke(build_app(ckd_core.commands), ["view", str(run), "--root", str(scenes)])
    assert outcome.exit_code == 0, outcome.output
    assert "2 sequences" in outcome.output
    rrd("verify", run / "run.rrd")
    paths = set(re.findall(r"/[ad]/[a-z/]+", rrd("print", run / "run.rrd")))
    wanted = {"/a/image/colour", "/a/image/auxiliary", "/a/image/tracker", "/a/image/annotation", "/d/plot/score"}
    assert wanted <= paths
    assert "/a/plot/overlap" in paths
    assert write_recording(run, tmp_path / "small.rrd", sequences=["d"]) == ["d"]
    assert (tmp_path / "small.rrd").stat().st_size < (run / "run.rrd").stat().st_size
    words = ["view", str(run), "--sequences", "a", "--score-maps", "--weights", str(tiny_weights)]
    outcome = CliRunner().invoke(build_app(ckd_core.commands), [*words, "--root", str(scenes)])
    assert outcome.exit_code == 0, outcome.output
    assert {"/a/score_map/colour", "/a/score_map/auxiliary"} <= set(
        re.findall(r"/a/[a-z_/]+", rrd("print", run / "run.rrd"))
    )
    outcome = CliRunner().invoke(build_app(ckd_core.commands), words)
    assert "expected --root, the dataset's folder" in str(outcome.exception)
    outcome = CliRunner().invoke(build_app(ckd_core.commands), [*words[:-1], __file__, "--root", str(scenes)])
    assert "are not the weights of" in str(outcome.exception)
    with pytest.raises(ManifestError, match="is not the folder of a run"):
        write_recording(tmp_path, tmp_path / "x.rrd")
