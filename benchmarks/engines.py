"""Engines side by side, one frame of one target on two real-sized networks, each against the published order."""

from __future__ import annotations

import copy
import importlib.util
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import _published_order as published
from benchmarks.harness import Row, interleaved, network_of, rows_against
from ckd_core import DEFAULT_MODEL
from ckd_core.tracking.engines import EngineSpec, EngineUnavailableError, parse_engine
from ckd_core.tracking.engines.build import engine_for
from ckd_core.tracking.engines.convert import (
    quantise,
    require_roundable,
    search_program,
    template_program,
    to_onnx,
    to_openvino,
)
from ckd_core.tracking.engines.exported import OnnxEngine, OpenVinoEngine, onnx_program, openvino_program
from ckd_core.tracking.engines.programs import Normalise
from ckd_core.tracking.engines.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.engines import Engine

    Call = Callable[[], object]

TITLE = "Engines: one frame of one target, crops to box (ratio: how much faster than the published order, same run)"
REFERENCE = "published order"
MODELS = ("sdstrack_b256", DEFAULT_MODEL)
CPU_ENGINES = (
    "torch/fp32", "torch/bf16", "compile/fp32", "compile/bf16", "onnx/fp32", "openvino/fp32", "openvino/bf16",
    "openvino/int8",
)  # fmt: skip
QUICK_ENGINES = ("torch/fp32", "torch/bf16", "openvino/bf16")
CUDA_ENGINES = (
    "torch/fp32", "torch/fp16", "compile/fp16", "cudagraph/fp32", "cudagraph/bf16", "cudagraph/fp16", "onnx/fp32",
    "tensorrt/fp16",
)  # fmt: skip
CALIBRATION_CROPS = 4  # the speed does not depend on what int8 was calibrated on


def run(quick: bool) -> list[Row]:
    """CPU rows, and rows of every CUDA engine where there is a CUDA device; engines that do not run here say why.

    `ratio` is against the published order in float32 on the same device.

    Args:
        quick: Only what starts fast, few rounds.
    """
    rows: list[Row] = []
    for name in MODELS:
        big = name.endswith("b256")
        rounds = 5 if quick else 9 if big else 41
        rows += _side_by_side(name, "cpu", QUICK_ENGINES if quick else CPU_ENGINES, rounds)
        if torch.cuda.is_available():
            rows += _side_by_side(name, "cuda", CUDA_ENGINES, 20 if quick else 200)
        else:
            note = "no CUDA device on this machine"
            rows += [_row(name, engine, "cuda", note=note) for engine in CUDA_ENGINES]
    return rows


def _row(model: str, engine: str, device: str, **values: object) -> Row:
    kind, precision = parse_engine(engine)
    return {"name": kind, "precision": precision, "model": model, "device": device, **values}


def _side_by_side(name: str, device: str, engines: tuple[str, ...], rounds: int) -> list[Row]:
    network = network_of(name)
    programs = _Programs(network)
    calls: dict[str, Call] = {}
    if name.endswith("b256"):
        calls[REFERENCE] = _published_order(network, device)
    missing: list[Row] = []
    for engine in engines:
        try:
            calls[engine] = _frame(_engine(network, programs, engine, device))
        except EngineUnavailableError as error:
            missing.append(_row(name, engine, device, note=str(error)))
    timings = interleaved(calls, rounds)
    reference = REFERENCE if REFERENCE in calls else "torch/fp32"
    rows: list[Row] = []
    for row in rows_against(timings, reference):
        engine = str(row.pop("name"))
        if engine == REFERENCE:
            rows.append({"name": REFERENCE, "precision": "fp32", "model": name, "device": device, **row})
        else:
            note = "" if reference == REFERENCE else "ratio against torch/fp32: this network has no published order"
            rows.append({**_row(name, engine, device, **row), **({"note": note} if note else {})})
    threads = usable_cores() if device == "cpu" else None
    return [*rows, *missing] if threads is None else [*({**row, "threads": threads} for row in rows), *missing]


def _published_order(network: TrackingNetwork, device: str) -> Call:
    """Same work as an engine's frame: crops on the host to maps, template embedded again, streams one by one."""
    model = copy.deepcopy(network).to(device)
    normalise = Normalise(torch.float32).to(device)
    template, search = (
        torch.from_numpy(_noise((1, 2, side, side, 3)))
        for side in (model.config.template_size, model.config.search_size)
    )

    @torch.inference_mode()
    def frame() -> object:
        output = published.sdstrack(model, normalise(template.to(device)), normalise(search.to(device)))
        return output.score_map.amax().item()

    return frame


class _Programs:
    """A network's exported programs, built once for all engines that run programs."""

    def __init__(self, network: TrackingNetwork) -> None:
        self._network = network
        self.spec = EngineSpec.of(network.name, network.config)

    @cached_property
    def exported(self) -> tuple[Any, Any]:
        return template_program(self._network), search_program(self._network, 1)

    @cached_property
    def openvino(self) -> tuple[Any, Any]:
        template, search = self.exported
        return to_openvino(template), to_openvino(search)

    def engine(self, name: str) -> Engine:
        kind, precision = parse_engine(name)
        if kind == "onnx":
            sessions = [onnx_program(to_onnx(program), kind, "cpu", usable_cores()) for program in self.exported]
            return OnnxEngine(name, "cpu", self.spec, sessions[0], {1: sessions[1]})
        require_roundable(self._network, precision)
        template, search = self.openvino
        exact = self._network.config.exact_convolutions > 0
        compiled = openvino_program(template, precision, usable_cores(), exact)
        if precision == "int8":
            search = self._quantised(compiled)
        program = openvino_program(search, precision, usable_cores(), exact)
        return OpenVinoEngine(name, "cpu", self.spec, compiled, {1: program})

    def _quantised(self, template: Any) -> Any:
        """As `sdstrack export` makes it, but calibrated on noise: its speed is measured, not its boxes."""
        if importlib.util.find_spec("nncf") is None:
            raise EngineUnavailableError("nncf is not installed; see requirements/engines.txt")
        config = self._network.config
        tokens = template.infer([_noise((1, 2, config.template_size, config.template_size, 3))])[0].copy()
        side = (1, 2, config.search_size, config.search_size, 3)
        window = np.ones((1, 1, config.grid, config.grid), dtype=np.float32)
        items = [(tokens, _noise(side, seed), window) for seed in range(CALIBRATION_CROPS)]
        return quantise(self.openvino[1].clone(), items, self._network)


def _engine(network: TrackingNetwork, programs: _Programs, name: str, device: str) -> Engine:
    if device == "cpu" and parse_engine(name)[0] in ("onnx", "openvino"):
        return programs.engine(name)
    return engine_for(copy.deepcopy(network), engine=name, device=device, threads=usable_cores(), strict_device=True)


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _frame(engine: Engine) -> Call:
    """A frame's network call on kept buffers."""
    template = engine.template_crops(1)
    template[:] = _noise(template.shape)
    tokens = engine.embed_template(template)
    crops, windows = engine.search_crops(1), engine.response_weights(1)
    crops[:] = _noise(crops.shape, 1)
    windows[:] = 1
    return lambda: engine.track(tokens, crops, windows)
