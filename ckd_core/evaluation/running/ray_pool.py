"""The jobs of a run on a Ray cluster: one task per sequence, and another node where a worker died."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.inputs import RunError
from ckd_core.evaluation.running.jobs import Job, Outcome, longest_first, work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.records import TrackRecord

logger = logging.getLogger(__name__)
MAX_ATTEMPTS = 3  # a sequence that kills every worker must end


@dataclass(slots=True)
class _Attempt:
    """A job under way.

    Attributes:
        job: As in the plan.
        device: What its device is called where it runs.
        gpus: How much of a GPU it reserves.
        node: Where it runs; '' before it began, and where it died before word of that had come.
        deaths: How many workers died of it.
        avoided: Nodes on which they did.
    """

    job: Job
    device: str
    gpus: float
    node: str = ""
    deaths: int = 0
    avoided: list[str] = field(default_factory=list)


def in_ray_task(device: str, gpus: float, share: float = 1.0) -> tuple[str, float]:
    """What a device is called inside a Ray task, which sees the GPU reserved for it alone, and how much to reserve.

    Args:
        device: As in the plan.
        gpus: How many the cluster has.
        share: Of a GPU, for one worker.

    Raises:
        RunError: A GPU in a cluster without one; Ray would wait for it forever.

    """
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if not device.startswith("cuda"):
        return device, 0.0
    if not gpus:
        raise RunError(f"device {device} was asked for, but the Ray cluster has no GPU; give --device cpu")
    return "cuda", share


def _announced_work(job: Job) -> Iterator[str | TrackRecord]:
    """Name the node, so that the caller knows it should the worker die; then track."""
    import ray

    yield str(ray.get_runtime_context().get_node_id())
    yield work(job)


@contextmanager
def _cluster(plan: RunPlan) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports each run to its maker
    try:
        import ray
    except ImportError as error:
        raise RunError("the pool 'ray' needs the package ray (pip install ray)") from error
    started_here = not ray.is_initialized()
    if started_here:
        options: dict[str, Any] = {} if plan.ray_address else {"num_cpus": plan.workers * plan.worker_threads}
        options |= {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        ray.init(address=plan.ray_address, **options)
    try:
        yield ray
    finally:
        if started_here:
            ray.shutdown()


def _can_run(node: dict[str, Any], attempt: _Attempt, threads: int) -> bool:
    """Whether a node is another one, lives, and is large enough."""
    has = node["Resources"].get
    enough = has("CPU", 0) >= threads and has("GPU", 0) >= attempt.gpus
    return bool(node["Alive"] and node["NodeID"] not in attempt.avoided and enough)


def work_on_ray(plan: RunPlan, jobs: list[Job]) -> Iterator[Outcome]:
    """Track on a cluster; every machine of it needs the dataset under the same path.

    A job whose worker or node dies begins again, on another node where there is one large enough; what a sequence's
    boxes are does not depend on the node.
    """
    with _cluster(plan) as ray:
        gpus = ray.cluster_resources().get("GPU", 0)
        task = ray.remote(num_cpus=plan.worker_threads, max_retries=0)(_announced_work)

        def start(attempt: _Attempt) -> Any:
            placement: dict[str, Any] = {"num_gpus": attempt.gpus}
            # Not as a preference: Ray would take the node that killed it whenever the others are busy.
            if attempt.avoided and any(_can_run(node, attempt, plan.worker_threads) for node in ray.nodes()):
                placement["label_selector"] = {"ray.io/node-id": f"!in({','.join(attempt.avoided)})"}
            return task.options(**placement).remote(replace(attempt.job, device=attempt.device))

        under_way: dict[Any, _Attempt] = {}
        for job in longest_first(jobs):
            attempt = _Attempt(job, *in_ray_task(job.device, gpus, plan.gpu_share))
            under_way[start(attempt)] = attempt
        while under_way:
            (running,), _ = ray.wait(list(under_way), num_returns=1)
            attempt = under_way.pop(running)
            name = attempt.job.name
            try:
                value = ray.get(next(running))
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, TrackingError):
                    raise
                yield attempt.job, error.cause
                continue
            except ray.exceptions.RayError as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                attempt.deaths += 1
                if attempt.deaths == MAX_ATTEMPTS:
                    yield attempt.job, RunError(f"{attempt.deaths} workers died of it; the last one: {reason}")
                    continue
                logger.warning(
                    "%s: its worker on node %s died (%s); it begins again on another node where there is one",
                    name, attempt.node[:12] or "unknown", reason,
                )  # fmt: skip
                if attempt.node:
                    attempt.avoided.append(attempt.node)
                attempt.node = ""
                under_way[start(attempt)] = attempt
                continue
            if attempt.node:
                yield attempt.job, value
            else:
                attempt.node = value
                under_way[running] = attempt
