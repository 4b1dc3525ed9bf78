"""Engines that run the network in PyTorch: eager, compiled, and as one CUDA graph per frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ckd_core.models.layers.vit import plain_attention
from ckd_core.tracking.engines.base import Engine, EngineSpec, EngineUnavailableError, Prediction, cpu_flags
from ckd_core.tracking.engines.programs import SearchProgram, TemplateProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WARMUP_RUNS = 3  # before a capture, on a side stream, as torch.cuda.graph asks for


class TorchEngine(Engine):
    """Eager PyTorch. The engine owns `network`: it is moved to the device, converted to the precision, set to eval."""

    kind = "torch"

    def __init__(self, network: TrackingNetwork, precision: str, device: str) -> None:
        super().__init__(f"{self.kind}/{precision}", device, EngineSpec.of(network.name, network.config))
        self._device = torch.device(device)
        network = network.to(device=self._device, dtype=torch.float32)
        if precision != "fp32":
            network.lower(DTYPES[precision])
        self._embed: Callable[..., Tensor] = TemplateProgram(network)
        self._search: Callable[..., Tensor] = SearchProgram(network)
        # Measured (`make bench BENCH=networks`): on a CPU without AMX the fused attention is the slower one in bf16.
        # A rule, not a timing at start: a run must give the same boxes every time.
        self._plain = precision == "bf16" and self._device.type == "cpu" and "amx_bf16" not in cpu_flags()

    def _allocate(self, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        array: NDArray[Any] = np.zeros(shape, dtype=dtype)
        if self._device.type != "cuda":
            return array
        return torch.from_numpy(array).pin_memory().numpy()

    @torch.inference_mode()
    def embed_template(self, crops: NDArray[np.uint8]) -> Tensor:
        """See `Engine`."""
        return self._embed(torch.from_numpy(crops).to(self._device))

    @torch.inference_mode()
    def track(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        with plain_attention(self._plain):
            return self._predict(templates, crops, response_weights)

    def _upload(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _predict(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        predictions = self._search(templates, self._upload(crops), self._upload(response_weights))
        return cast("NDArray[np.float32]", predictions.cpu().numpy())

    def join(self, templates: Sequence[Tensor]) -> Tensor:
        """See `Engine`."""
        return torch.cat(tuple(templates))


class CompiledEngine(TorchEngine):
    """torch.compile of the search program, one graph without breaks, compiled at the first call per batch size."""

    kind = "compile"

    def __init__(self, network: TrackingNetwork, precision: str, device: str) -> None:
        super().__init__(network, precision, device)
        self._search = torch.compile(self._search, fullgraph=True, dynamic=False)
        self._plain = False  # the compiler chooses its own attention

    @torch.no_grad()  # inference tensors would make the compiler add guards and compile again
    def embed_template(self, crops: NDArray[np.uint8]) -> Tensor:
        """See `Engine`."""
        return self._embed(torch.from_numpy(crops).to(self._device))

    @torch.no_grad()
    def track(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        return self._predict(templates, crops, response_weights)


def capture_graph(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """What a call does on the current CUDA device, as one graph to replay; the call runs a few times before."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP_RUNS):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        call()
    return graph


@dataclass(slots=True)
class _Capture:
    """A frame captured for one batch size.

    Attributes:
        graph: What is replayed.
        tokens: Template tokens that the graph reads.
        predictions: What the graph writes, in pinned host memory.
        loaded: The templates whose tokens were copied last; None before the first frame.
    """

    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    predictions: Tensor
    loaded: Tensor | None = None


class CudaGraphEngine(TorchEngine):
    """One CUDA graph per frame: upload of crops and weights, normalisation, network, decoding, download of the result.

    The graph reads the engine's own pinned buffers (`search_crops`, `response_weights`), so a frame is one launch and
    one wait.
    """

    kind = "cudagraph"

    def __init__(self, network: TrackingNetwork, precision: str, device: str) -> None:
        if torch.device(device).type != "cuda" or not torch.cuda.is_available():
            raise EngineUnavailableError(f"CUDA graphs need a CUDA device, got {device}")
        super().__init__(network, precision, device)
        self._captures: dict[int, _Capture] = {}
        self._device_inputs: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode()
    def track(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        count = len(crops)
        for buffer, values in ((self.search_crops(count), crops), (self.response_weights(count), response_weights)):
            if buffer is not values:
                np.copyto(buffer, values)
        with torch.cuda.device(self._device):  # graphs belong to the current device, whatever their tensors say
            capture = self._captures.get(count)
            if capture is None:
                capture = self._captures[count] = self._capture(templates, count)
            if capture.loaded is not templates:
                capture.tokens.copy_(templates)
                capture.loaded = templates
            capture.graph.replay()
            torch.cuda.current_stream().synchronize()
        return cast("NDArray[np.float32]", capture.predictions.numpy())

    def _capture(self, templates: Tensor, count: int) -> _Capture:
        crops, weights = torch.from_numpy(self.search_crops(count)), torch.from_numpy(self.response_weights(count))
        tokens = templates.clone()
        device_crops, device_weights = crops.to(self._device), weights.to(self._device)
        predictions = torch.empty((count, len(Prediction._fields)), dtype=torch.float32).pin_memory()

        def frame() -> None:
            device_crops.copy_(crops, non_blocking=True)
            device_weights.copy_(weights, non_blocking=True)
            predictions.copy_(self._search(tokens, device_crops, device_weights), non_blocking=True)

        graph = capture_graph(frame)
        # The graph reads and writes these at every replay; without a reference they would be collected.
        self._device_inputs.append((device_crops, device_weights))
        return _Capture(graph, tokens, predictions)
