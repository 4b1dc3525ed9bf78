"""A frame as one CUDA graph: upload, computation and download are one launch and one wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from ckd_core.tracking.engines.base import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

WARMUP_RUNS = 3  # before a capture, on a side stream, as torch.cuda.graph asks for


class Replay(Protocol):
    """What was captured."""

    def replay(self) -> None:
        """Do it again."""


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


class FrameGraph:
    """A frame of fixed shapes, captured: arrays and template tokens in, predictions out."""

    def __init__(
        self,
        compute: Callable[..., Tensor],
        templates: Tensor,
        inputs: Sequence[NDArray[Any]],
        capture: Callable[[Callable[[], object]], Replay] = capture_graph,
    ) -> None:
        """Capture.

        Args:
            compute: Takes the tokens and the inputs on the device, returns [B, 11] predictions.
            templates: Tokens of the first frame; where they lie is where the frame is computed.
            inputs: In pinned memory that belongs to the graph, which reads it in every frame.
            capture: What makes a graph of a call.
        """
        self._inputs = list(inputs)
        self._tokens = templates.clone()
        self._loaded: Tensor | None = None
        device = templates.device
        self._on_gpu = device.type == "cuda"
        host = [torch.from_numpy(array) for array in inputs]
        # The graph reads and writes all these at every replay: they live as long as it does.
        self._device_inputs = [array.to(device) for array in host]
        predictions = torch.empty((len(templates), len(Prediction._fields)), dtype=torch.float32)
        self._predictions = predictions.pin_memory() if self._on_gpu else predictions

        def frame() -> None:
            for there, here in zip(self._device_inputs, host, strict=True):
                there.copy_(here, non_blocking=True)
            self._predictions.copy_(compute(self._tokens, *self._device_inputs), non_blocking=True)

        self._graph = capture(frame)

    def run(self, templates: Tensor, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Compute a frame; the predictions are valid until the next one.

        Args:
            templates: Tokens; copied only if they are not those of the frame before.
            inputs: As at the capture; copied only if they are not the graph's own.
        """
        for mine, given in zip(self._inputs, inputs, strict=True):
            if mine is not given:
                np.copyto(mine, given)
        if self._loaded is not templates:
            self._tokens.copy_(templates)
            self._loaded = templates
        self._graph.replay()
        if self._on_gpu:
            torch.cuda.current_stream().synchronize()
        return cast("NDArray[np.float32]", self._predictions.numpy())
