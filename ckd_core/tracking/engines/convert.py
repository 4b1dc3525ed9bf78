"""Networks converted to programs of static shape for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import copy
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.tracking.engines.base import Engine, EngineSpec, EngineUnavailableError
from ckd_core.tracking.engines.exported import (
    OnnxEngine,
    OpenVinoEngine,
    onnx_lanes,
    onnx_program,
    openvino_core,
    openvino_lanes,
    openvino_program,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ckd_core.models.network import TrackingNetwork

# Calibration inputs of a search program: template tokens, crops, response weights.
CalibrationItem = tuple["NDArray[Any]", "NDArray[np.uint8]", "NDArray[np.float32]"]


def template_program(network: TrackingNetwork) -> Any:
    """Trace the template program for one target with torch.export."""
    import torch

    from ckd_core.tracking.engines.programs import TemplateProgram

    side, device = network.config.template_size, next(network.parameters()).device
    crops = torch.zeros((1, 2, side, side, 3), dtype=torch.uint8, device=device)
    program = TemplateProgram(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(program, (crops,), strict=False)


def search_program(network: TrackingNetwork, batch: int) -> Any:
    """Trace the search program for `batch` targets with torch.export."""
    import torch

    from ckd_core.models.checks import compute_dtype
    from ckd_core.tracking.engines.programs import SearchProgram

    config, dtype, device = network.config, compute_dtype(network), next(network.parameters()).device
    tokens = torch.zeros((batch, 2, config.template_tokens, config.width), dtype=dtype, device=device)
    crops = torch.zeros((batch, 2, config.search_size, config.search_size, 3), dtype=torch.uint8, device=device)
    weights = torch.ones((batch, 1, config.grid, config.grid), device=device)
    program = SearchProgram(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(program, (tokens, crops, weights), strict=False)


def to_onnx(program: Any) -> bytes:
    """Convert a traced program to a serialised ONNX model.

    Raises:
        EngineUnavailableError: The package `onnxscript` is not installed.
    """
    import torch

    try:
        import onnxscript  # noqa: F401 - the exporter needs it and says so less clearly
    except ImportError as error:
        raise EngineUnavailableError("onnxscript is not installed; see requirements/engines.txt") from error
    for library in ("onnxscript", "onnx_ir"):  # they report every node they fold
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(program, dynamo=True, verbose=False, optimize=True)
    assert converted is not None  # noqa: S101 - dynamo=True always returns a program
    data: bytes = converted.model_proto.SerializeToString()
    return data


def to_openvino(program: Any) -> Any:
    """Convert a traced program to an OpenVINO model of static shape.

    Raises:
        EngineUnavailableError: OpenVINO is not installed.
    """
    openvino_core()
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(program)
    example, _ = program.example_inputs
    model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, example, strict=True)})
    return model


def quantise(model: Any, items: Sequence[CalibrationItem], network: TrackingNetwork) -> Any:
    """Quantise the OpenVINO model of a network's search program to int8, calibrated on real template tokens and crops.

    The head and the network's exact convolutions stay in floating point: a head in int8 costs a tenth of the boxes'
    overlap and saves next to nothing. The exact ones are the first, the head's the last in any topological order.

    Raises:
        EngineUnavailableError: The package `nncf` is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise EngineUnavailableError("nncf is not installed; see requirements/engines.txt") from error
    data = nncf.Dataset(list(items), lambda item: [np.ascontiguousarray(part) for part in item])
    convolutions = [op.get_friendly_name() for op in model.get_ordered_ops() if "Convolution" in op.get_type_name()]
    kept = convolutions[: network.config.exact_convolutions] + convolutions[-_head_convolutions(network) :]
    with warnings.catch_warnings(), _only_errors("nncf"):
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            data,
            subset_size=len(items),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=kept),
        )


@contextmanager
def _only_errors(name: str) -> Iterator[None]:
    """Let a logger say errors alone for a while.

    nncf's own way, `set_log_level`, also raises the level of every handler there, and those may be the application's.
    """
    own = logging.getLogger(name)
    before = own.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        own.setLevel(before)


def engine_from_network(network: TrackingNetwork, kind: str, precision: str, device: str, threads: int) -> Engine:
    """Convert a network in memory and start it on ONNX Runtime or OpenVINO.

    What several targets need is started at the first call with several; on a GPU, converted for each number.

    Args:
        network: Stays as it is.
        kind: `onnx`, `tensorrt` or `openvino`.
        precision: One of `KINDS[kind]`.
        device: Where it is to run.
        threads: CPU threads, 1 or more.

    Raises:
        EngineUnavailableError: A package, the device or the precision is not available.
    """
    name, spec = f"{kind}/{precision}", EngineSpec.of(network.name, network.config)
    if kind == "openvino":
        if precision == "int8":
            raise EngineUnavailableError("openvino/int8 must be calibrated: give a folder written by sdstrack export")
        if device != "cpu":
            raise EngineUnavailableError(f"device is {device}; OpenVINO runs on the CPU here")
        require_roundable(network, precision)
        template = openvino_program(to_openvino(template_program(network)), precision, threads)
        model = to_openvino(search_program(network, 1))
        search = {1: openvino_program(model, precision, threads)}

        def lanes(side: int) -> list[Any]:
            wide = side == spec.search_size
            one = model if wide else to_openvino(search_program(network.narrowed(), 1))
            return openvino_lanes(one, precision, threads)

        return OpenVinoEngine(name, device, spec, template, search, None, lanes, network.config.narrow_size)
    if precision == "fp16":
        network = copy.deepcopy(network).half()  # the caller's fallback needs its network whole

    def convert_onnx(batch: int) -> Any:
        return onnx_program(to_onnx(search_program(network, batch)), kind, device, threads)

    template = onnx_program(to_onnx(template_program(network)), kind, device, threads)
    if device != "cpu":
        return OnnxEngine(name, device, spec, template, {1: convert_onnx(1)}, convert_onnx)
    source = to_onnx(search_program(network, 1))
    search = {1: onnx_program(source, kind, device, threads)}

    def onnx_lanes_of(side: int) -> list[Any]:
        wide = side == spec.search_size
        return onnx_lanes(source if wide else to_onnx(search_program(network.narrowed(), 1)), threads)

    return OnnxEngine(name, device, spec, template, search, None, onnx_lanes_of, network.config.narrow_size)


def require_roundable(network: TrackingNetwork, precision: str) -> None:
    """Refuse what OpenVINO cannot do: it rounds a whole program to bf16, or nothing of it.

    Raises:
        EngineUnavailableError: bf16 is asked for, and the network has exact convolutions.
    """
    if precision == "bf16" and network.config.exact_convolutions:
        raise EngineUnavailableError(
            f"{network.name} must keep its first layers in fp32, which openvino/bf16 cannot; "
            "openvino/fp32 is as fast for a network of this size"
        )


def _head_convolutions(network: TrackingNetwork) -> int:
    """Count the convolutions in a network's head."""
    from torch import nn

    return sum(isinstance(module, nn.Conv2d) for module in network.get_submodule("box_head").modules())
