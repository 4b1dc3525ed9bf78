"""Crops cut on the device equal those of the CPU; the device may be the CPU itself, which runs the same program."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ckd_core.boxes import iou_xywh
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.modality import ModalityOptions
from ckd_core.models.checkpoint import load_model
from ckd_core.models.registry import build_model
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.crop import window_around
from ckd_core.tracking.engines import Engine, EngineError, EngineFailedError, EngineSpec, Prediction
from ckd_core.tracking.engines.build import engine_for
from ckd_core.tracking.engines.device_crops import CropProgram
from ckd_core.tracking.engines.exported import OnnxEngine
from ckd_core.tracking.engines.graphs import FrameGraph
from ckd_core.tracking.engines.guarded import GuardedEngine
from ckd_core.tracking.engines.pytorch import _bits
from ckd_core.tracking.looks import Look
from ckd_core.tracking.multi import MultiTracker
from ckd_core.tracking.view import FrameView
from testkit.golden_weights import depth_u16, image_u8, video

HEIGHT, WIDTH, CROP = 120, 160, 64
NUMBERS = len(Prediction._fields)
HALF = np.array(((0.5, 0.02, 3.0), (-0.01, 0.5, 2.0), (0.0, 0.0, 1.0)))
TILTED = np.array(((0.5, 0.02, 3.0), (-0.01, 0.5, 2.0), (1e-4, 2e-4, 1.0)))
HORIZON = np.array(((0.5, 0.02, 3.0), (-0.01, 0.5, 2.0), (-0.02, 0.0, 1.0)))
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]
FRAMES = {
    "depth": (Modality.DEPTH, depth_u16, None),
    "thermal, 16 bits": (Modality.THERMAL, depth_u16, None),
    "thermal, 8 bits": (Modality.THERMAL, lambda *at: np.ascontiguousarray(image_u8(*at)[..., 0]), None),
    "event": (Modality.EVENT, image_u8, None),
    "depth of half the size": (Modality.DEPTH, depth_u16, HALF),
    "thermal, tilted": (Modality.THERMAL, depth_u16, TILTED),
    "thermal beyond the horizon": (Modality.THERMAL, depth_u16, HORIZON),
}


def frame_of(name: str) -> MultiModalFrame:
    modality, draw, homography = FRAMES[name]
    size = (HEIGHT, WIDTH) if homography is None else (HEIGHT // 2, WIDTH // 2)
    return MultiModalFrame(
        0.0, image_u8("rgb", HEIGHT, WIDTH), draw("aux", *size), modality, aux_from_reference=homography
    )


def windows(square: bool) -> list:
    """In the middle, over each edge, larger than the frame, and outside of it."""
    boxes = [
        (60, 50, 20, 30),
        (2, 3, 25, 20),
        (140, 100, 18, 18),
        (30, 20, 90, 70),
        (-60, -60, 9, 9),
        (75.3, 41.7, 8, 5),
    ]
    return [window_around(BoundingBox(*map(float, box)), 4.0, not square, square_boxes=square) for box in boxes]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("square", [False, True], ids=["whole pixels", "square boxes"])
@pytest.mark.parametrize("name", FRAMES)
def test_a_device_cuts_what_the_cpu_cuts(name: str, square: bool, device: str) -> None:
    frame, looks = frame_of(name), windows(square)
    view = FrameView(frame.modality, TrackerConfig())
    view.begin(frame, view.check(frame, None))
    images = view.images(looks, CROP)
    expected = np.zeros((len(looks), 2, CROP, CROP, 3), dtype=np.uint8)
    view.cut_all(looks, expected)
    program = CropProgram(CROP, images.colored).to(device)
    arrays = images.rgb, _bits(images.aux), images.geometry, images.tone
    crops = program(*(torch.from_numpy(array).to(device) for array in arrays)).cpu().numpy()
    difference = np.abs(crops.astype(int) - expected)
    # OpenCV rounds places to 1/32 of a pixel where it warps, and weights to 1/2048 where it resizes.
    assert difference.mean() < 0.1
    assert np.quantile(difference, 0.99) <= 1
    assert difference.max() <= 8
    assert crops[4].max() == 0, "a window outside the frame is black"


def test_depth_without_colours_stays_grey() -> None:
    frame = frame_of("depth")
    config = TrackerConfig(modality=ModalityOptions(depth_colormap=False))
    view = FrameView(Modality.DEPTH, config)
    view.begin(frame, view.check(frame, None))
    images = view.images(windows(square=False), CROP)
    assert not images.colored
    arrays = images.rgb, _bits(images.aux), images.geometry, images.tone
    crops = CropProgram(CROP, images.colored)(*map(torch.from_numpy, arrays)).numpy()
    expected = np.zeros_like(crops)
    view.cut_all(windows(square=False), expected)
    assert np.abs(crops.astype(int) - expected).max() <= 1


@pytest.fixture(scope="module")
def clip() -> tuple[list[MultiModalFrame], BoundingBox]:
    """Frames with a square that moves, and where it is in the first."""
    images, truth = video("clip0", n_frames=5)
    frames = [
        MultiModalFrame(
            index / 30, np.ascontiguousarray(image[..., :3]), np.ascontiguousarray(image[..., 3:]), Modality.THERMAL
        )
        for index, image in enumerate(images)
    ]
    return frames, BoundingBox(*map(float, truth[0]))


def trained(device: str) -> Engine:
    """With weights that were trained: random ones have no peak that a grey level could not move."""
    name = "torch/fp32" if device == "cpu" else "cudagraph/fp32"
    return engine_for(load_model("sdstrack_s128")[0], engine=name, device=device, strict_device=True)


def followed(engine: Engine, frames: list[MultiModalFrame], start: BoundingBox, on_device: bool) -> np.ndarray:
    """Boxes of two targets in all frames but the first, [N, 4]."""
    tracker = MultiTracker(engine, Modality.THERMAL, TrackerConfig(device_crops=on_device))
    tracker.start(frames[0], {0: start, 1: BoundingBox(start.x + 6, start.y + 4, start.w, start.h)})
    return np.array([result.box for frame in frames[1:] for result in tracker.update(frame).values()])


@pytest.mark.parametrize("device", DEVICES)
def test_a_tracker_follows_the_same_boxes_by_crops_of_the_device(clip, device: str) -> None:
    on_cpu, there = (followed(trained(device), *clip, on_device) for on_device in (False, True))
    overlap = iou_xywh(on_cpu, there)
    assert np.median(overlap) > 0.99
    assert overlap.min() > 0.9
    assert not np.array_equal(on_cpu, there), "the device did cut"


@pytest.mark.parametrize("device", DEVICES)
def test_two_trackers_at_once_follow_what_each_follows_alone(clip, device: str) -> None:
    """Each in a thread of its own, on a GPU in a stream of its own as well."""
    frames, start = clip
    starts = [start, BoundingBox(start.x - 8, start.y + 6, start.w, start.h)]
    engines = [trained(device) for _ in starts]
    alone = [followed(engine, frames, box, True) for engine, box in zip(engines, starts, strict=True)]

    def follow(engine: Engine, box: BoundingBox) -> np.ndarray:
        stream = contextlib.nullcontext() if device == "cpu" else torch.cuda.stream(torch.cuda.Stream())
        with stream:
            return followed(engine, frames, box, True)

    with ThreadPoolExecutor(len(starts)) as pool:
        together = list(pool.map(follow, engines, starts))
    np.testing.assert_allclose(together, alone, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rows_of_the_gpu_bench_on_a_gpu() -> None:
    from benchmarks.gpu.cases import Case
    from benchmarks.gpu.measure import Bench

    bench = Bench("sdstrack_tiny_test", "cuda", 0.2)
    for case in (
        Case("sdstrack_tiny_test", "cudagraph/fp16", "device"),
        Case("sdstrack_tiny_test", "cudagraph/fp16", "device", targets=8),
        Case("sdstrack_tiny_test", "cudagraph/fp16", "device", streams=2),
        Case("sdstrack_tiny_test", "torch/fp32"),
    ):
        row = bench.row(case)
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["gpu_ms"] > 0
        assert row["launches"] >= 1
        assert row["kernels"] > 1


def test_without_both_images_the_cpu_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(build_model("sdstrack_tiny_test").eval(), engine="torch/fp32", device="cpu")
    tracker = MultiTracker(engine, Modality.DEPTH, TrackerConfig(device_crops=True))
    frame = frame_of("depth")
    tracker.start(frame, {0: BoundingBox(60.0, 50.0, 20.0, 30.0)})
    monkeypatch.setattr(engine, "track_images", lambda *_: pytest.fail("a frame without an auxiliary image"))
    tracker.update(MultiModalFrame(0.1, frame.rgb, None, Modality.DEPTH))


def test_a_look_with_something_painted_over_is_cut_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(build_model("sdstrack_tiny_test").eval(), engine="torch/fp32", device="cpu")
    tracker = MultiTracker(engine, Modality.DEPTH, TrackerConfig(device_crops=True))
    frame, box = frame_of("depth"), BoundingBox(60.0, 50.0, 20.0, 30.0)
    tracker.start(frame, {0: box})
    target, memory = tracker._targets[0], tracker._memory
    monkeypatch.setattr(engine, "track_images", lambda *_: pytest.fail("nothing is painted over there"))
    shown, track = [], engine.track

    def watched(templates: object, crops: np.ndarray, weights: object) -> np.ndarray:
        shown.append(crops.copy())
        return track(templates, crops, weights)

    monkeypatch.setattr(engine, "track", watched)
    for hidden in (BoundingBox(65.0, 60.0, 10.0, 9.0), BoundingBox(-500.0, 0.0, 20.0, 20.0), box):
        look = Look(0, target.template.both, tracker._search_window(box), scanning=False, hidden=hidden)
        tracker._predict(frame, memory, [look])
    part, nothing, whole = (crops[0] for crops in shown)
    side = engine.spec.search_size
    for crops, hidden in ((part, BoundingBox(65.0, 60.0, 10.0, 9.0)), (whole, box)):
        cx, cy, w, h = (round(side * value) for value in look.window.to_crop(hidden))
        inside = np.zeros((side, side), dtype=np.bool_)
        inside[cy - h // 2 + 1 : cy + h // 2 - 1, cx - w // 2 + 1 : cx + w // 2 - 1] = True
        around = np.zeros_like(inside)
        around[cy - h // 2 - 2 : cy + h // 2 + 3, cx - w // 2 - 2 : cx + w // 2 + 3] = True
        for camera, before in zip(crops, nothing, strict=True):
            np.testing.assert_array_equal(camera[~around], before[~around])
            np.testing.assert_array_equal(camera[inside], np.broadcast_to(camera[cy, cx], camera[inside].shape))
            assert np.abs(camera[cy, cx] - before.mean(axis=(0, 1))).max() <= 1


def test_a_guarded_engine_cuts_and_notices_numbers_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = engine_for(build_model("sdstrack_tiny_test").eval(), engine="torch/fp32", device="cpu", threads=2)
    frame, box = frame_of("depth"), BoundingBox(60.0, 50.0, 20.0, 30.0)
    boxes = []
    for engine in (inner, GuardedEngine(inner)):
        assert (engine.cuts, engine.threads) == (True, 2)
        tracker = MultiTracker(engine, Modality.DEPTH, TrackerConfig(device_crops=True))
        tracker.start(frame, {0: box})
        monkeypatch.setattr(engine, "track", lambda *_: pytest.fail("cut on the CPU"))
        boxes.append(tracker.update(frame)[0].box)
    assert boxes[0] == boxes[1]
    monkeypatch.setattr(inner, "track_images", lambda *_: np.full((1, NUMBERS), np.nan, dtype=np.float32))
    with pytest.raises(EngineFailedError, match="NaN or infinity"):
        tracker.update(frame)


def test_an_engine_that_cannot_cut_says_so() -> None:
    engine = OnnxEngine("onnx/fp32", "cpu", EngineSpec("m", 64, 128, 2.0, 4.0, 8), None, {1: None})
    assert not engine.cuts
    with pytest.raises(EngineError, match="onnx/fp32 does not cut windows; expected one of: torch, cudagraph"):
        engine.track_images(None, None, None)


class Once:
    """A stand-in for a CUDA graph on the CPU: replays by calling, after the runs that a capture needs."""

    def __init__(self, call) -> None:
        self.call, self.replays = call, 0
        call()

    def replay(self) -> None:
        self.replays += 1
        self.call()


def test_a_frame_graph_reads_its_own_buffers_and_copies_tokens_only_when_they_change() -> None:
    captured: list[Once] = []

    def capture(call) -> Once:
        captured.append(Once(call))
        return captured[-1]

    def compute(tokens: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return (tokens + values.sum(1, keepdim=True)).expand(2, NUMBERS)

    own = np.zeros((2, 3), dtype=np.float32)
    first, second = torch.full((2, 1), 10.0), torch.full((2, 1), 20.0)
    graph = FrameGraph(compute, first, [own], capture)
    own[:] = 1
    np.testing.assert_array_equal(graph.run(first, [own]), np.full((2, NUMBERS), 13.0))
    first[:] = 90  # tokens never change in place; were they copied again, it would show
    given = np.full((2, 3), 2, dtype=np.float32)
    np.testing.assert_array_equal(graph.run(first, [given]), np.full((2, NUMBERS), 16.0))
    np.testing.assert_array_equal(own, given)
    np.testing.assert_array_equal(graph.run(second, [own]), np.full((2, NUMBERS), 26.0))
    assert captured[0].replays == 3
