from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.running.inputs import RunError, open_inputs
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.ray_pool import MAX_ATTEMPTS, in_ray_task
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.frame import Modality
from testkit.dying_tracker import DyingSpec, builds
from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster on this machine, of one node, in the long form of two; each says it has a GPU."""
    pytest.importorskip("ray", reason="the optional package ray is not installed")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        if LONG:
            cluster.add_node(**node)
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def plan_of(scenes: Path, out: Path, weights: Path) -> RunPlan:
    inputs = open_inputs(open_dataset("folder", scenes))
    return RunPlan(inputs, ModelSpec(TINY, weights), out, device="cpu", threads=1)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for kind in ("tracks", "results") for path in (folder / kind).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param(0, id="no worker dies"),
        pytest.param(1, id="a worker dies", marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG)),
    ],
)
def test_a_cluster_gives_the_same_bytes_also_when_a_worker_dies(
    cluster: str, scenes: Path, tmp_path: Path, tiny_weights: Path, caplog: pytest.LogCaptureFixture, deaths: int
) -> None:
    """A share of a GPU is reserved for each sequence; one whose worker was killed is tracked on the other node."""
    local = plan_of(scenes, tmp_path / "local", tiny_weights)
    local = replace(local, inputs=local.inputs.select(["a", "b"]))
    run_benchmark(local)
    tracker = DyingSpec(ModelSpec(TINY, tiny_weights), tmp_path / "log", Modality.DEPTH, deaths)
    run_benchmark(
        replace(
            local, out=tmp_path / "ray", pool="ray", ray_address=cluster, device="cuda:0", gpu_share=0.25,
            tracker=tracker,
        )
    )  # fmt: skip
    workers = builds(tmp_path / "log")
    assert len({worker["node"] for worker in workers}) == len(workers) == deaths + 1
    for worker in workers:
        assert worker["device"] == "cuda"
        assert worker["reserved"] == {"CPU": 1.0, "GPU": 0.25}
    assert (f"b: its worker on node {str(workers[0]['node'])[:12]} died" in caplog.text) == bool(deaths)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")


@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
def test_a_sequence_that_kills_every_worker_is_given_up(
    cluster: str, scenes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    plan = plan_of(scenes, tmp_path / "out", tiny_weights)
    tracker = DyingSpec(ModelSpec(TINY, tiny_weights), tmp_path / "log", Modality.DEPTH, deaths=99)
    plan = replace(plan, inputs=plan.inputs.select(["b"]), pool="ray", ray_address=cluster, tracker=tracker)
    with pytest.raises(RunError, match=rf"(?s)1 of 1 sequences failed.*b: {MAX_ATTEMPTS} workers died of it"):
        run_benchmark(plan)
    assert len(builds(tmp_path / "log")) == MAX_ATTEMPTS


def test_a_ray_task_sees_its_gpu_as_the_first() -> None:
    assert in_ray_task("cuda:1", 4) == in_ray_task("auto", 4) == ("cuda", 1)
    assert in_ray_task("cuda:1", 4, 0.25) == ("cuda", 0.25)
    assert in_ray_task("auto", 0) == in_ray_task("cpu", 4) == ("cpu", 0)
    with pytest.raises(RunError, match="the Ray cluster has no GPU"):
        in_ray_task("cuda:1", 0)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_of_a_gpu_is_checked(share: float, scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    with pytest.raises(RunError, match="gpu_share="):
        replace(plan_of(scenes, tmp_path, tiny_weights), gpu_share=share)
