"""Engines that run a network as an exported program of static shape: ONNX Runtime and OpenVINO.

They need the network only to convert it; an engine loaded from an export folder runs without PyTorch.
"""

from __future__ import annotations

import functools
import sys
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.tracking.engines.base import Engine, EngineError, EngineSpec, EngineUnavailableError, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Takes arrays in the order of its inputs and returns one array, which may be overwritten by its next call.
Program = Any


class ProgramEngine(Engine):
    """Runs a template program for one target and search programs for fixed numbers of targets.

    Several targets on a CPU run side by side, each alone on one core: no core waits for another after every layer, and
    what a layer leaves is still in the core's cache for the next. No number of targets has to be converted for. What
    that takes, and smaller search crops (`narrow_size`), is started at the first call with several targets.
    """

    def __init__(
        self,
        name: str,
        device: str,
        spec: EngineSpec,
        template: Program,
        search: Mapping[int, Program],
        make_search: Callable[[int], Program] | None = None,
        make_lanes: Callable[[int], Sequence[Program]] | None = None,
        narrow_size: int = 0,
    ) -> None:
        """Take over the programs.

        Args:
            name: `kind/precision`.
            device: Where the programs run.
            spec: The network's shapes.
            template: Template program for one target.
            search: Search programs by batch size, 1 among them.
            make_search: Converts the network for a further batch size. None where there is no network to convert; a
                batch then runs in parts.
            make_lanes: Starts search programs for one target that run at once, one per core, for search crops of that
                side. None where a batch is better off in one program, as on a GPU.
            narrow_size: See `Engine`; only with `make_lanes`.

        Raises:
            EngineError: There is no search program for one target and no way to get it.
        """
        super().__init__(name, device, spec)
        if 1 not in search and make_search is None:
            raise EngineError(f"{name} needs a search program for one target, got batch sizes {sorted(search)}")
        self._template = template
        self._search = dict(search)
        self._make_search = make_search
        self._make_lanes = make_lanes
        self.narrow_size = narrow_size if make_lanes is not None else 0
        self._lanes: dict[int, Sequence[Program]] = {}  # by side of their search crops
        self._workers: ThreadPoolExecutor | None = None

    @abstractmethod
    def _run(self, program: Program, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Run a program; its output is valid until its next run."""

    def embed_template(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """See `Engine`."""
        return np.concatenate([self._run(self._template, (crops[row : row + 1],)).copy() for row in range(len(crops))])

    def track(
        self, templates: NDArray[Any], crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        count, inputs = len(crops), (templates, crops, response_weights)
        narrow = crops.shape[2] == self.narrow_size
        if (narrow or count not in self._search) and self._make_lanes is not None:
            return self._side_by_side(inputs, self._make_lanes)
        if count not in self._search and self._make_search is not None:
            self._search[count] = self._make_search(count)
        if count in self._search:
            return self._run(self._search[count], inputs)
        return self._in_parts(inputs, range(count))

    def _in_parts(self, inputs: Sequence[NDArray[Any]], rows: range) -> NDArray[np.float32]:
        """Run rows one part after the other, in as few parts as the programs allow."""
        predictions = []
        row = rows.start
        while row < rows.stop:
            size = max(size for size in self._search if size <= rows.stop - row)
            part = [values[row : row + size] for values in inputs]
            predictions.append(self._run(self._search[size], part).copy())
            row += size
        return np.concatenate(predictions)

    def _side_by_side(
        self, inputs: Sequence[NDArray[Any]], make_lanes: Callable[[int], Sequence[Program]]
    ) -> NDArray[np.float32]:
        """Run rows in the lanes at once; a single one that is left over then has all cores, where a program can."""
        count, side = len(inputs[0]), inputs[1].shape[2]
        if self._workers is None:
            sides = {self.spec.search_size, self.narrow_size} - {0}
            self._lanes = {one: make_lanes(one) for one in sides}
            self._workers = ThreadPoolExecutor(len(self._lanes[side]), "targets")
        lanes = self._lanes[side]
        even = count - count % len(lanes)
        shared = even if count - even == 1 and side == self.spec.search_size else count
        predictions = np.empty((count, len(Prediction._fields)), dtype=np.float32)
        rows = iter(range(shared))
        for lane in [self._workers.submit(self._lane, lane, rows, inputs, predictions) for lane in lanes]:
            lane.result()
        if shared < count:
            predictions[shared:] = self._in_parts(inputs, range(shared, count))
        return predictions

    def _lane(
        self, program: Program, rows: Iterator[int], inputs: Sequence[NDArray[Any]], predictions: NDArray[np.float32]
    ) -> None:
        """Run rows until none is left; the lanes take theirs from the same iterator."""
        for row in rows:
            predictions[row] = self._run(program, [values[row : row + 1] for values in inputs])[0]

    def join(self, templates: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Engine`."""
        return np.concatenate(templates)


class OnnxEngine(ProgramEngine):
    """ONNX Runtime."""

    def _run(self, program: Program, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        names = (value.name for value in program.get_inputs())
        output: NDArray[Any] = program.run(None, dict(zip(names, inputs, strict=True)))[0]
        return output


class OpenVinoEngine(ProgramEngine):
    """OpenVINO on the CPU."""

    def _run(self, program: Program, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        output: NDArray[Any] = program.infer(list(inputs), share_inputs=True, share_outputs=True)[0]
        return output


PROVIDERS = {
    ("onnx", "cpu"): "CPUExecutionProvider",
    ("onnx", "cuda"): "CUDAExecutionProvider",
    ("tensorrt", "cuda"): "TensorrtExecutionProvider",
}


def onnx_lanes(source: Path | bytes, threads: int) -> list[Program]:
    """Open an ONNX Runtime session for the CPU whose runs use one thread each, once per thread: it may run at once.

    Args and errors are those of `onnx_program`.
    """
    return [onnx_program(source, "onnx", "cpu", 1)] * threads


def onnx_program(source: Path | bytes, kind: str, device: str, threads: int) -> Program:
    """Open an ONNX Runtime session on a file or a serialised model.

    Raises:
        EngineUnavailableError: The runtime or its execution provider is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError("onnxruntime is not installed; see requirements/engines.txt") from error
    family, _, number = device.partition(":")
    provider = PROVIDERS.get((kind, family))
    available = onnxruntime.get_available_providers()
    if provider is None or provider not in available:
        raise EngineUnavailableError(
            f"ONNX Runtime cannot run {kind} on {device}; it needs {provider or 'another device'} "
            f"and has {', '.join(available)}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that keep a core busy while they wait take it from those they wait for (docs/engines.md "Threads").
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {"device_id": int(number or 0)} if family == "cuda" else {}
    chain = [(provider, settings)]
    if kind == "tensorrt":
        chain.append(("CUDAExecutionProvider", settings))
    path = source if isinstance(source, bytes) else str(source)
    session = onnxruntime.InferenceSession(path, options, providers=chain)
    if session.get_providers()[0] != provider:
        raise EngineUnavailableError(f"ONNX Runtime fell back to {session.get_providers()[0]}; expected {provider}")
    return session


def openvino_program(model: Any, precision: str, threads: int, exact: bool = False) -> Program:
    """Compile an OpenVINO model for the CPU and return its inference request.

    Args:
        model: A model in memory, or the path of an .xml file.
        precision: fp32, bf16, or int8 for a quantised model.
        threads: CPU threads that share one request's work.
        exact: Whether the parts of an int8 model that stay in floating point must not run in bf16, even where the CPU
            has it.

    Raises:
        EngineUnavailableError: OpenVINO is not installed, or the CPU lacks the precision.
    """
    return _compiled(model, precision, threads, 1, exact).create_infer_request()


def openvino_lanes(model: Any, precision: str, threads: int, exact: bool = False) -> list[Program]:
    """Compile an OpenVINO model for the CPU and return `threads` requests, each of which runs on one thread.

    Args and errors are those of `openvino_program`.
    """
    compiled = _compiled(model, precision, threads, threads, exact)
    return [compiled.create_infer_request() for _ in range(threads)]


def _compiled(model: Any, precision: str, threads: int, streams: int, exact: bool) -> Any:
    core = openvino_core()
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_bf16:
        raise EngineUnavailableError("OpenVINO reports no bf16 on this CPU; use openvino/fp32")
    hint = "f32" if precision == "fp32" or exact or not has_bf16 else "bf16"
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        # A thread that is bound to one core waits for it while another is free (docs/engines.md "Threads").
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(model, "CPU", settings)


@functools.cache
def openvino_core() -> Any:
    """Return OpenVINO's entry object, one for the process. The only place that imports it first.

    With every Core OpenVINO gives the thread another alternate stack for signals, and frees it with the Core. Cores
    that end in the order in which they began leave the thread with a freed one, and the next signal kills the process.

    Raises:
        EngineUnavailableError: OpenVINO is not installed.
    """
    # With this package OpenVINO and NNCF report every import and conversion to a web service, each time from a process
    # forked off a thread. Both do without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: as if it were not installed
    try:
        import openvino
    except ImportError as error:
        raise EngineUnavailableError("openvino is not installed; see requirements/engines.txt") from error
    return openvino.Core()
