"""`python -m benchmarks._threads_case ENGINE MODEL ROUNDS`: one engine in its own process, without and with others.

Prints a JSON object: median and spread (distance between the quartiles) in milliseconds by situation; for `threads`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.harness import Timing, interleaved, network_of
from ckd_core.tracking.engines import EngineUnavailableError
from ckd_core.tracking.engines.build import engine_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckd_core.models.network import TrackingNetwork

ENGINES = ("torch/fp32", "onnx/fp32", "openvino/fp32")


def frame_of(network: TrackingNetwork, name: str) -> Callable[[], object]:
    """A frame's network call on kept buffers.

    Raises:
        EngineUnavailableError: The engine cannot run here.
    """
    engine = engine_for(copy.deepcopy(network), engine=name, device="cpu", strict_device=True)
    random = np.random.default_rng(0)
    template = engine.template_crops(1)
    template[:] = random.integers(0, 256, template.shape)
    tokens, crops, weights = engine.embed_template(template), engine.search_crops(1), engine.response_weights(1)
    crops[:] = random.integers(0, 256, crops.shape)
    weights[:] = 1
    return lambda: engine.track(tokens, crops, weights)


def opencv() -> Callable[[], object]:
    """OpenCV's share of a frame, on all its threads."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return lambda: cv2.warpAffine(image, np.eye(2, 3), (640, 480))


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process that keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def measured(name: str, model: str, rounds: int) -> dict[str, dict[str, float]]:
    """Time the engine alone, beside others that have run and rest, beside a busy process, and in turns with others."""
    network = network_of(model)
    frame = frame_of(network, name)
    timings = {"alone": interleaved({name: frame}, rounds, warmup=10)[name]}
    others = {"opencv": opencv()}
    for other in ENGINES:
        if other != name:
            try:
                others[other] = frame_of(network, other)
            except EngineUnavailableError as error:
                print(error, file=sys.stderr)
    for call in others.values():
        for _ in range(5):
            call()
    timings["loaded"] = interleaved({name: frame}, rounds, warmup=10)[name]
    with busy_neighbour():
        timings["neighbour"] = interleaved({name: frame}, rounds // 4, warmup=2)[name]
    timings["in_turns"] = interleaved({name: frame, **others}, rounds)[name]
    return {situation: _row(timing) for situation, timing in timings.items()}


def _row(timing: Timing) -> dict[str, float]:
    return {"median_ms": round(timing.median_ms, 3), "spread_ms": round(timing.spread_ms, 3)}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
