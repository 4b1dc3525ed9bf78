"""Smaller search regions for targets among others: the same weights, the same boxes, and only where they are safe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckd_core import DEFAULT_MODEL
from ckd_core.boxes import cxcywh_to_xyxy, iou, iou_xywh
from ckd_core.data.footage import of_clip
from ckd_core.data.synthetic import clip
from ckd_core.deploy.network_inputs import calibration_items, median_agreement, network_inputs
from ckd_core.frame import BoundingBox, Modality
from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.models.config import ConfigError
from ckd_core.models.registry import build_model, model_config
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TemplateRefresh, TrackerConfig
from ckd_core.tracking.engines.base import EngineSpec
from ckd_core.tracking.engines.build import engine_for
from ckd_core.tracking.engines.export import (
    MEDIAN_IOU,
    METADATA_FILE,
    ExportError,
    ExportMetadata,
    load_export,
    write_export,
)
from ckd_core.tracking.looks import CALM_ERROR
from ckd_core.tracking.multi import MultiTracker
from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.tracker_looks import looks_per_frame

if TYPE_CHECKING:
    from ckd_core.tracking.engines import Engine

FRAMES = 30


@pytest.fixture(scope="module")
def network():
    return load_model(default_weights(DEFAULT_MODEL))[0]


@pytest.fixture(scope="module")
def film():
    return clip(78, Modality.THERMAL, FRAMES, (320, 240))


def looked(tracker: MultiTracker, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Sides of the crops of each later frame, 0 for the network's own."""
    return looks_per_frame(tracker, monkeypatch, lambda look: look.narrow)


def test_the_narrowed_network_is_the_same_one_at_the_same_scale(network) -> None:
    narrow = network.narrowed()
    before, after = network.config, narrow.config
    assert (after.search_size, after.grid) == (192, 12)
    assert after.search_size / after.search_factor == before.search_size / before.search_factor
    own, others = dict(network.named_parameters()), dict(narrow.named_parameters())
    assert own.keys() == others.keys()
    assert all(others[name].data_ptr() == values.data_ptr() for name, values in own.items())
    assert EngineSpec.of("m", before).narrowed(192) == EngineSpec.of("m", after)


@pytest.mark.parametrize(("side", "narrow"), [(128, 96), (192, 128), (320, 224), (32, 0)])
def test_the_smaller_region_follows_the_networks_own(side: int, narrow: int) -> None:
    """A recipe may change the search region; a `narrow` one that is not smaller would be no saving but an error."""
    assert replace(model_config("sdstrack_m256"), template_size=32, search_size=side).narrow_size == narrow


def test_a_network_with_positions_has_no_smaller_region() -> None:
    small = build_model("sdstrack_s128")
    assert small.config.narrow_size == 0
    with pytest.raises(ConfigError, match="sdstrack_s128 has no smaller search region"):
        small.narrowed()


def small_crops(engine: Engine, film) -> tuple[Any, Any, Any]:
    """Tokens of a template three times, three crops of 192 pixels, and weights that prefer no place."""
    random = np.random.default_rng(3)
    image = film.frames[0].rgb
    crops, weights = engine.search_crops(3, 192), engine.response_weights(3, 192)
    assert crops.shape == (3, 2, 192, 192, 3)
    assert weights.shape == (3, 1, 12, 12)
    for row in crops:
        y, x = random.integers(0, (240 - 192, 320 - 192))
        row[:] = image[y : y + 192, x : x + 192]
    weights.fill(1.0)
    template = engine.template_crops(1)
    template[:] = image[60:188, 90:218]
    return engine.join([engine.embed_template(template)] * 3), crops, weights


@pytest.fixture(scope="module")
def expected(network, film):
    """What the narrowed network says of `small_crops`."""
    reference = engine_for(network.narrowed(), engine="torch/fp32", device="cpu", threads=1)
    return reference.track(*small_crops(reference, film)).copy()


@pytest.mark.parametrize("kind", ["torch", "openvino"])
@torch.inference_mode()
def test_engines_say_of_smaller_crops_what_the_network_says(network, film, expected, kind: str) -> None:
    if kind == "openvino":
        pytest.importorskip("openvino")
    engine = engine_for(network, engine=f"{kind}/fp32", device="cpu", threads=2, strict_device=True)
    np.testing.assert_allclose(engine.track(*small_crops(engine, film)), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "threads"),
    [
        ("openvino/fp32", 1),
        pytest.param("onnx/fp32", 2, marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG)),
        pytest.param("openvino/int8", 2, marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG)),
    ],
)
def test_exports_for_a_cpu_take_smaller_crops_too(network, film, expected, tmp_path, name: str, threads: int) -> None:
    pytest.importorskip("nncf" if name.endswith("int8") else name.partition("/")[0].replace("onnx", "onnxruntime"))
    folder = tmp_path / "export"
    spec = EngineSpec.of(network.name, network.config)
    metadata = ExportMetadata(name, "cpu", spec, (1,), ("thermal",), "a test", "0" * 64, Thresholds(), False)
    items = []
    if name.endswith("int8"):
        reference = engine_for(network, engine="torch/fp32", device="cpu", threads=1)
        items = calibration_items(reference, network_inputs([of_clip("film", film)], spec, False, 24))
    written = write_export(folder, network, metadata, items)
    assert written.narrow_size == 192
    engine, _ = load_export(folder, threads)
    assert engine.narrow_size == 192
    rows = engine.track(*small_crops(engine, film))
    if name.endswith("int8"):
        corners = [cxcywh_to_xyxy(boxes[:, :4].astype(np.float64)) for boxes in (rows, expected)]
        assert np.median(iou(*corners)) > MEDIAN_IOU["int8"]
    else:
        np.testing.assert_allclose(rows, expected, rtol=0, atol=2e-4)
    if name != "openvino/fp32":
        return
    plain = json.loads((folder / METADATA_FILE).read_text())
    for value in (256, -1, "192", None):
        (folder / METADATA_FILE).write_text(json.dumps({**plain, "narrow_size": value}))
        with pytest.raises(ExportError, match=r"narrow_size|not what sdstrack export writes"):
            load_export(folder)
    older = {key: value for key, value in plain.items() if key != "narrow_size"}
    older["files"] = {key: value for key, value in plain["files"].items() if "narrow" not in key}
    (folder / METADATA_FILE).write_text(json.dumps(older))
    for path in folder.glob("narrow.*"):
        path.unlink()
    engine, _ = load_export(folder, threads)
    assert engine.narrow_size == 0, "an export from before there was a smaller one"


def test_boxes_of_two_engines_are_compared_in_smaller_regions_too(network, film, monkeypatch) -> None:
    engine, reference = (engine_for(network, engine="torch/fp32", device="cpu", threads=1) for _ in range(2))
    inputs = network_inputs([of_clip("film", film)], engine.spec, False, 3)
    assert median_agreement(engine, reference, inputs) == 1
    track = engine.track

    def off_in_small_crops(templates: Any, crops: Any, weights: Any) -> Any:
        return track(templates, crops, weights) * (0.5 if crops.shape[2] == engine.narrow_size else 1.0)

    monkeypatch.setattr(engine, "track", off_in_small_crops)
    assert median_agreement(engine, reference, inputs) < 0.5
    monkeypatch.setattr(engine, "narrow_size", 0)
    assert median_agreement(engine, reference, inputs) == 1


def test_targets_among_others_are_looked_for_in_smaller_regions_and_found_as_alone(network, film, monkeypatch) -> None:
    engine = engine_for(network, engine="torch/fp32", device="cpu", threads=1)
    box = BoundingBox(*map(float, film.boxes[0]))
    config = TrackerConfig(template_refresh=TemplateRefresh.NEVER)  # two targets would be refreshed in different frames
    alone, among = (MultiTracker(engine, Modality.THERMAL, config) for _ in range(2))
    alone.start(film.frames[0], {0: box})
    among.start(film.frames[0], {0: box, 1: box})
    looks = {tracker: looked(tracker, monkeypatch) for tracker in (alone, among)}
    overlaps = []
    for frame in film.frames[1:]:
        own, others = alone.update(frame)[0], among.update(frame)
        assert others[0].box == others[1].box
        overlaps.append(float(iou_xywh(np.array(own.box), np.array(others[0].box))))
    assert {side for sides in looks[alone] for side in sides} == {0}, "one target has no need of it"
    assert looks[among][0] == [0, 0], "how a new target moves is not known"
    assert looks[among].count([192, 192]) > FRAMES / 4
    assert np.median(overlaps) > 0.9


def test_a_target_that_moves_otherwise_than_foreseen_has_its_whole_region_again(network, film, monkeypatch) -> None:
    tracker = MultiTracker(engine_for(network, engine="torch/fp32", device="cpu", threads=1), Modality.THERMAL)
    box = BoundingBox(*map(float, film.boxes[0]))
    tracker.start(film.frames[0], {0: box, 1: box})
    looks = looked(tracker, monkeypatch)
    for index in range(20):
        tracker.update(replace(film.frames[0], stamp=1.0 + index / 30))
    assert looks[-1] == [192, 192]
    moved = _shifted(film.frames[0], int(3 * CALM_ERROR * np.sqrt(box.w * box.h)) + 1)
    for index in range(2):
        tracker.update(replace(moved, stamp=2.0 + index / 30))
    assert looks[-1] == [0, 0]


def _shifted(frame, pixels: int):
    return replace(frame, rgb=np.roll(frame.rgb, pixels, axis=1), aux=np.roll(frame.aux, pixels, axis=1))
