"""The shipped weights on real recordings: what an engine's precision costs.

A fuller look: `sdstrack export --sequences` for the boxes, `sdstrack benchmark --engine` for AUC.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from ckd_core.data.footage import of_sequence
from ckd_core.data.sequences import open_sequence
from ckd_core.deploy.network_inputs import calibration_items, median_agreement, network_inputs
from ckd_core.evaluation.scoring.metrics import overlap, success_auc
from ckd_core.models.checkpoint import load_model
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines import EngineSpec, EngineUnavailableError
from ckd_core.tracking.engines.build import tracking_metadata
from ckd_core.tracking.engines.export import (
    MEDIAN_IOU,
    quantise,
    search_program,
    template_program,
    to_openvino,
)
from ckd_core.tracking.engines.exported import OpenVinoEngine, openvino_program
from ckd_core.tracking.engines.pytorch import TorchEngine
from ckd_core.tracking.tracker import Tracker

pytestmark = pytest.mark.shared
SEQUENCES = (
    "rgbt_m3svd_clip_0111_1753",
    "rgbe_evbench_seq1",
    "rgbe_evbench_seq2",
    "rgbd_kitchen7s_magazine",
    "rgb_otb_crossing",  # bf16 throughout leaves 0.971 here
)
FRAMES = 30  # of the longer ones
CROPS = 32
AUC_TOLERANCE = 0.01


@pytest.fixture(scope="module")
def footage(shared_data):
    return [of_sequence(open_sequence(shared_data / "sequences" / name)) for name in SEQUENCES]


@pytest.fixture(scope="module")
def shipped():
    network, metadata = load_model("sdstrack_s128")
    return network, tracking_metadata(metadata.tracking)


@pytest.fixture(scope="module")
def inputs(footage, shipped):
    network, (_, published) = shipped
    return network_inputs(footage, EngineSpec.of(network.name, network.config), published, CROPS)


@pytest.fixture(scope="module")
def reference(shipped):
    return TorchEngine(copy.deepcopy(shipped[0]), "fp32", "cpu")


@pytest.fixture(scope="module")
def reference_auc(reference, shipped, footage) -> float:
    return auc(reference, shipped, footage)


def int8_engine(network, reference, inputs):
    """As `sdstrack export` makes it; calibrated on every other input, so that half of them are new to it."""
    try:
        template = openvino_program(to_openvino(template_program(network)), "int8", 1, exact=True)
        model = to_openvino(search_program(network, 1))
        quantised = quantise(model, calibration_items(reference, inputs[::2]), network)
        program = openvino_program(quantised, "int8", 1, exact=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    return OpenVinoEngine("openvino/int8", "cpu", reference.spec, template, {1: program})


def auc(engine, shipped, footage) -> float:
    """Mean success AUC over the first frames of all sequences, each tracked from its first box on."""
    thresholds, published = shipped[1]
    aucs = []
    for item in footage:
        tracker = Tracker(engine, item.modality, TrackerConfig(published_geometry=published), thresholds)
        tracker.start(item.frame(0), item.box(0))
        count = min(len(item), FRAMES)
        boxes = np.array([tracker.update(item.frame(index)).box for index in range(1, count)])
        present = item.present[1:count]
        aucs.append(success_auc(overlap(boxes[present], item.boxes[1:count][present])))
    return float(np.mean(aucs))


@pytest.mark.parametrize("name", ["torch/bf16", "openvino/int8"])
def test_a_precision_keeps_boxes_and_auc(name: str, footage, shipped, inputs, reference, reference_auc) -> None:
    precision = name.split("/")[1]
    if precision == "int8":
        engine = int8_engine(copy.deepcopy(shipped[0]), reference, inputs)
    else:
        engine = TorchEngine(copy.deepcopy(shipped[0]), precision, "cpu")
    assert median_agreement(engine, reference, inputs) >= MEDIAN_IOU[precision]
    assert auc(engine, shipped, footage) == pytest.approx(reference_auc, abs=AUC_TOLERANCE)
