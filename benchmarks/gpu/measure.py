"""The rows of one network: parity, times, what the GPU does."""

from __future__ import annotations

import copy
import functools
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import _published_order as published
from benchmarks.gpu.cases import PUBLISHED, Case
from benchmarks.harness import network_of
from ckd_core.boxes import iou_xywh
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.models.registry import build_model
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.build import engine_for
from ckd_core.tracking.multi import MultiTracker
from testkit import golden_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.engines import Engine

GOLDEN = Path(__file__).parents[2] / "test" / "golden"
TRACES = {  # network: manifest of its golden weights, and the published implementation's boxes with elimination
    "sdstrack_b256": ("manifest_sdstrack", "trace_sdstrack_ce", (3, 6, 9)),
    "ckd_b256": ("manifest_ckd_infer", "trace_ckd_noce", ()),
}
SIZE = (480, 640)
MAX_FRAMES, MIN_FRAMES, PROFILED = 500, 12, 10
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
PEAK_SIDE = {"cuda": 4096, "cpu": 512}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Bench:
    """A network with its reference on the CPU.

    Args:
        name: In the registry.
        device: Where rows are measured.
        seconds: Of frames per row.
    """

    def __init__(self, name: str, device: str, seconds: float) -> None:
        self.name, self.device, self.seconds = name, device, seconds
        self.network = golden_network(name) if name in TRACES else network_of(name)

    @functools.cached_property
    def clip(self) -> tuple[list[MultiModalFrame], list[BoundingBox]]:
        """The golden clip: frames and the square's boxes."""
        images, boxes = golden_weights.video("clip0")
        frames = [
            MultiModalFrame(
                index / 30, np.ascontiguousarray(image[..., :3]), np.ascontiguousarray(image[..., 3:]), Modality.THERMAL
            )
            for index, image in enumerate(images)
        ]
        return frames, [BoundingBox(*map(float, box)) for box in boxes]

    @functools.cached_property
    def reference(self) -> np.ndarray[Any, Any]:
        """Boxes of one step by torch/fp32 on the CPU."""
        engine = engine_for(copy.deepcopy(self.network), engine="torch/fp32", device="cpu", strict_device=True)
        return self._steps(engine, on_device=False)

    @functools.cached_property
    def gflop(self) -> float:
        """Operations of a frame of one target in 1e9: a multiplication and an addition are two."""
        config = self.network.config
        tokens = torch.zeros((1, 2, config.template_tokens, config.width))
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            self.network.track(tokens, torch.zeros((1, 6, config.search_size, config.search_size)))
        return float(counter.get_total_flops()) / 1e9

    @functools.cache  # noqa: B019 - one object per process
    def peak(self, precision: str) -> float:
        """The device's own matrix product in 1e12 operations per second."""
        device = torch.device(self.device)
        side = PEAK_SIDE[device.type]
        a = torch.randn(side, side, device=device, dtype=DTYPES[precision])
        seconds = []
        for _ in range(12):
            self._wait()
            begin = time.perf_counter()
            for _ in range(5):
                a @ a
            self._wait()
            seconds.append((time.perf_counter() - begin) / 5)
        return 2 * side**3 / min(seconds) / 1e12

    def row(self, case: Case) -> dict[str, Any]:
        """Measure a case.

        Raises:
            TrackingError: The engine cannot run here.
        """
        free = self._free()
        if case.engine == PUBLISHED:
            trackers, values = [self._published()], {}
        else:
            engines = [
                engine_for(copy.deepcopy(self.network), engine=case.engine, device=self.device, strict_device=True)
                for _ in range(case.streams)
            ]
            on_device = case.crops == "device"
            values = self._boxes(engines[0], on_device) if (case.targets, case.streams) == (1, 1) else {}
            trackers = [self._follower(engine, case.targets, on_device) for engine in engines]
        for call in trackers:
            for _ in range(3):
                call()
        values["memory_mb"] = round((free - self._free()) / 2**20) if free else ""
        times = self.times(trackers)
        values["p50_ms"] = round(statistics.median(times), 3)
        values["p99_ms"] = round(float(np.quantile(times, 0.99)), 3)
        try:
            values |= self._on_gpu(trackers[0])
        except Exception as error:  # noqa: BLE001 - a card that may not be profiled has its times all the same
            values["note"] = f"no profile: {reason(error)}"
        work = self.gflop * case.targets
        own_ms = values.get("gpu_ms") or values["p50_ms"]
        reached = work / own_ms / 1e3  # in 1e12 per second
        values["gflop"] = round(work, 2)
        values["roofline"] = f"{100 * reached / self.peak(case.engine.rpartition('/')[2]):.1f} %"
        return values

    def _boxes(self, engine: Engine, on_device: bool) -> dict[str, Any]:
        """Parity with the published implementation, and with the CPU."""
        overlap = iou_xywh(self._steps(engine, on_device), self.reference)
        values: dict[str, Any] = {
            "iou_median": round(float(np.median(overlap)), 4), "iou_min": round(float(overlap.min()), 4)
        }  # fmt: skip
        if self.name in TRACES:
            golden = np.load(GOLDEN / f"{TRACES[self.name][1]}.npz")["pred_boxes_f64"]
            frames, boxes = self.clip
            tracker = _tracker(engine, Modality.THERMAL, on_device)
            tracker.start(frames[0], {0: boxes[0]})
            followed = np.array([tracker.update(frame)[0].box for frame in frames[1:]])
            values["golden_px"] = round(float(np.abs(followed - golden[1 : len(frames)]).max()), 4)
        return values

    def _steps(self, engine: Engine, on_device: bool) -> np.ndarray[Any, Any]:
        """One step from each true box to the next frame, [N, 4]."""
        frames, boxes = self.clip
        rows = []
        for before, after, box in zip(frames, frames[1:], boxes, strict=False):
            tracker = _tracker(engine, Modality.THERMAL, on_device)
            tracker.start(before, {0: box})
            rows.append(tracker.update(after)[0].box)
        return np.array(rows)

    def _follower(self, engine: Engine, targets: int, on_device: bool) -> Callable[[], object]:
        """A call that tracks through the next frame: 640 x 480, raw depth where the network knows it."""
        modality = Modality.THERMAL if self.name.startswith("ckd") else Modality.DEPTH
        rgb = golden_weights.image_u8("bench", *SIZE)
        grey = golden_weights.image_u8("bench/aux", *SIZE)[..., 0]
        aux = golden_weights.depth_u16("bench", *SIZE) if modality is Modality.DEPTH else np.ascontiguousarray(grey)
        frame = MultiModalFrame(0.0, rgb, aux, modality)
        random = np.random.default_rng(targets)
        boxes = {
            index: BoundingBox(*map(float, random.uniform((60, 60, 40, 40), (480, 340, 90, 90))))
            for index in range(targets)
        }
        tracker = _tracker(engine, modality, on_device)
        tracker.start(frame, boxes)
        return lambda: tracker.update(frame)

    def _published(self) -> Callable[[], object]:
        """The published order in float32: crops of both images, template embedded again, box on the host."""
        model = copy.deepcopy(self.network).eval().to(self.device)
        order = published.sdstrack if self.name.startswith("sdstrack") else published.ckd
        rgb, aux = (golden_weights.image_u8(name, *SIZE) for name in ("bench", "bench/aux"))
        frame = MultiModalFrame(0.0, rgb, aux, Modality.EVENT)
        box, config = BoundingBox(300.0, 200.0, 60.0, 80.0), self.network.config

        @torch.inference_mode()
        def call() -> object:
            template, search = (
                published.crop(frame, box, factor, side, aux).to(self.device)
                for factor, side in (
                    (config.template_factor, config.template_size), (config.search_factor, config.search_size),
                )
            )  # fmt: skip
            output = order(model, template, search)
            return [values.cpu() for values in output]

        return call

    def times(self, calls: list[Callable[[], object]]) -> list[float]:
        """Milliseconds of frames, of all calls at once, each in a thread and stream of its own if there are several."""
        taken: list[float] = []

        def work(call: Callable[[], object]) -> None:
            end = time.perf_counter() + self.seconds
            count = 0
            while (time.perf_counter() < end or count < MIN_FRAMES) and count < MAX_FRAMES:
                begin = time.perf_counter()
                call()
                taken.append((time.perf_counter() - begin) * 1e3)
                count += 1

        if len(calls) == 1:
            work(calls[0])
            return taken

        def in_stream(call: Callable[[], object]) -> None:
            with ExitStack() as own:
                if torch.device(self.device).type == "cuda":
                    stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch's own gap
                    own.enter_context(torch.cuda.stream(stream))
                work(call)

        with ThreadPoolExecutor(len(calls)) as threads:
            for future in [threads.submit(in_stream, call) for call in calls]:
                future.result()
        return taken

    def _on_gpu(self, call: Callable[[], object]) -> dict[str, Any]:
        """Time and number of kernels per frame, and of the calls that start work."""
        if torch.device(self.device).type != "cuda":
            return {}
        from torch._C._autograd import DeviceType  # as torch.profiler itself
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for _ in range(PROFILED):
                call()
            self._wait()
        events = list(profiler.events() or ())
        kernels = [event for event in events if event.device_type == DeviceType.CUDA]
        launches = [event for event in events if event.name.startswith(LAUNCHES)]
        busy_us = sum(event.time_range.elapsed_us() for event in kernels)
        return {
            "gpu_ms": round(busy_us / PROFILED / 1e3, 3),
            "kernels": round(len(kernels) / PROFILED),
            "launches": round(len(launches) / PROFILED),
        }

    def _wait(self) -> None:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)

    def _free(self) -> int:
        """Free bytes of the GPU once what is not used any more was returned; 0 on a CPU."""
        if torch.device(self.device).type != "cuda":
            return 0
        self._wait()
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.device)[0])


def reason(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def golden_network(name: str) -> TrackingNetwork:
    """A large network with the weights of the golden numbers."""
    manifest, _, ce_blocks = TRACES[name]
    rows = json.loads((GOLDEN / f"{manifest}.json").read_text())
    with torch.device("meta"):
        network = build_model(name, ce_blocks=ce_blocks)
    state = {
        key: torch.from_numpy(np.asarray(values)) for key, values in golden_weights.state_dict_arrays(rows).items()
    }
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def _tracker(engine: Engine, modality: Modality, on_device: bool) -> MultiTracker:
    # states off: a lost target would look elsewhere and at another number of windows
    return MultiTracker(engine, modality, replace(TrackerConfig().as_published(), device_crops=on_device))
