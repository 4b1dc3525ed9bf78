from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckd_core.tracking.config import TemplateRefresh, TrackerConfig
from ckd_core.tracking.engines import Engine, EngineFailedError
from ckd_core.tracking.engines.guarded import FACTS, MAX_FAILURES, GuardedEngine
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAULTS = {
    "out of memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "launch failure": RuntimeError("CUDA error: unspecified launch failure"),
    "NaN": None,
}


class Breakable(Engine):
    """Another engine with tokens of its own kind, which nobody else can read; it fails while `fault` is set."""

    def __init__(self, inner: Engine) -> None:
        super().__init__("cudagraph/fp16", "cuda", inner.spec)
        self.inner = inner
        self.fault = ""
        self.calls = 0

    def _fail(self) -> None:
        self.calls += 1
        error = FAULTS.get(self.fault)
        if error is not None:
            raise error

    def embed_template(self, crops: Any) -> Any:
        self._fail()
        return ("tokens", self.inner.embed_template(crops))

    def track(self, templates: Any, crops: Any, response_weights: Any) -> Any:
        self._fail()
        rows = self.inner.track(templates[1], crops, response_weights)
        return rows * np.float32(np.nan) if self.fault == "NaN" else rows

    def blend(self, first: Any, newest: Any, share: float) -> Any:
        return ("tokens", self.inner.blend(first[1], newest[1], share))

    def join(self, templates: Sequence[Any]) -> Any:
        return ("tokens", self.inner.join([one[1] for one in templates]))


@pytest.fixture
def engine(correlation: Engine) -> Breakable:
    return Breakable(correlation)


def follow(tracker: Tracker, scene: Any, frames: range) -> list[str]:
    """Updates with a walking square; for each frame what came: the place, or the error."""
    seen = []
    for index in frames:
        frame = scene.frame(index / 30, {"a": (100 + 2 * index, 80)})
        try:
            box = tracker.update(frame).box
        except EngineFailedError as error:
            seen.append(f"error: {error}")
        else:
            seen.append("right" if abs(box.x - 100 - 2 * index) < 6 else f"wrong: {box}")
    return seen


@pytest.mark.parametrize("fault", FAULTS)
def test_another_engine_takes_over_and_the_target_is_kept(
    fault: str, engine: Breakable, correlation: Engine, scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    guarded = GuardedEngine(engine, lambda: correlation)
    tracker = Tracker(guarded, scene.modality)
    tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))
    assert follow(tracker, scene, range(1, 4)) == ["right"] * 3
    engine.fault = fault
    seen = follow(tracker, scene, range(4, 12))
    assert [text.partition(":")[0] for text in seen] == ["error"] * (MAX_FAILURES - 1) + ["right"] * 6
    assert fault in seen[0]
    assert "cudagraph/fp16 on cuda failed 1 times in a row" in seen[0]
    assert (guarded.name, guarded.device, guarded.trouble) == ("correlation/fp32", "cpu", "")
    assert guarded.chosen_by == "in place of cudagraph/fp16 on cuda, which failed"
    assert "correlation/fp32 on cpu takes over" in caplog.text
    assert engine.calls == 4 + MAX_FAILURES, "the broken one is left alone"


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_spare_the_engine_is_used_again_when_it_works(fault: str, engine: Breakable, scene: Any) -> None:
    guarded = GuardedEngine(engine)
    tracker = Tracker(guarded, scene.modality)
    tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))
    engine.fault = fault
    seen = follow(tracker, scene, range(1, 6))
    assert all(text.startswith("error: ") for text in seen)
    assert "failed 5 times in a row" in guarded.trouble
    engine.fault = ""
    assert follow(tracker, scene, range(6, 9)) == ["right"] * 3
    assert guarded.trouble == ""
    assert guarded.name == "cudagraph/fp16"


def test_a_program_that_fails_while_the_other_works_is_replaced_too(
    engine: Breakable, correlation: Engine, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Templates are renewed in the middle of a stream, after a search that has succeeded."""
    guarded = GuardedEngine(engine, lambda: correlation)
    tracker = Tracker(guarded, scene.modality, TrackerConfig(template_refresh=TemplateRefresh.BLEND))
    tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))

    def broken(_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "embed_template", broken)
    seen = follow(tracker, scene, range(1, 20))
    assert [text.partition(":")[0] for text in seen] == ["right"] * 9 + ["error"] * (MAX_FAILURES - 1) + ["right"] * 8
    assert (guarded.name, guarded.trouble) == ("correlation/fp32", "")


def test_two_failures_apart_are_no_reason_to_change(engine: Breakable, correlation: Engine, scene: Any) -> None:
    guarded = GuardedEngine(engine, lambda: correlation)
    tracker = Tracker(guarded, scene.modality)
    tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))
    for index in range(1, 12):
        engine.fault = "out of memory" if index % 3 else ""
        follow(tracker, scene, range(index, index + 1))
    assert guarded.name == "cudagraph/fp16"


def test_a_spare_that_does_not_start_is_tried_once_and_named(
    engine: Breakable, scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def spare() -> Engine:
        tries.append(1)
        raise OSError("weights.safetensors is gone")

    guarded = GuardedEngine(engine, spare)
    tracker = Tracker(guarded, scene.modality)
    tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))
    engine.fault = "launch failure"
    with caplog.at_level(logging.ERROR):
        seen = follow(tracker, scene, range(1, 8))
    assert all(text.startswith("error: ") for text in seen)
    assert "the CPU cannot take over: weights.safetensors is gone" in caplog.text
    assert len(tries) == 1
    engine.fault = ""
    assert follow(tracker, scene, range(8, 10)) == ["right"] * 2


def test_a_target_cannot_start_on_a_broken_engine_until_another_takes_over(
    engine: Breakable, correlation: Engine, scene: Any
) -> None:
    guarded = GuardedEngine(engine, lambda: correlation)
    tracker = Tracker(guarded, scene.modality)
    engine.fault = "out of memory"
    for _ in range(MAX_FAILURES - 1):
        with pytest.raises(EngineFailedError, match="out of memory"):
            tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))
    tracker.start(scene.frame(0.0, {"a": (100, 80)}), scene.box(100, 80))
    assert follow(tracker, scene, range(1, 4)) == ["right"] * 3


def test_templates_of_several_targets_move_to_the_new_engine(tiny: Callable[[], Engine]) -> None:
    broken, spare = Breakable(tiny()), tiny()
    guarded = GuardedEngine(broken, lambda: spare)
    random = np.random.default_rng(1)
    side = guarded.spec.template_size
    crops = random.integers(0, 256, (3, 1, 2, side, side, 3), dtype=np.uint8)
    own = [guarded.embed_template(one) for one in crops]
    blended = guarded.blend(own[0], own[1], 0.25)
    templates = guarded.join([own[0], blended, own[2]])
    search, weights = guarded.search_crops(3), guarded.response_weights(3)
    search[:], weights[:] = random.integers(0, 256, search.shape, dtype=np.uint8), 1
    search = search.copy()
    before = guarded.track(templates, search, weights).copy()
    unblended = guarded.track(guarded.join(own), search, weights)
    assert (unblended[1] != before[1]).any()
    broken.fault = "launch failure"
    for _ in range(MAX_FAILURES - 1):
        with pytest.raises(EngineFailedError):
            guarded.track(templates, search, weights)
    np.testing.assert_array_equal(guarded.track(templates, search, weights), before)


def test_what_an_engine_says_of_itself_goes_through(correlation: Engine) -> None:
    assert "chosen_by" in FACTS
    for name in FACTS:
        setattr(correlation, name, f"the inner {name}")
    guarded = GuardedEngine(correlation)
    assert [getattr(guarded, name) for name in FACTS] == [f"the inner {name}" for name in FACTS]
