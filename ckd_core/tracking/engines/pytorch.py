"""Engines that run the network in PyTorch: eager, compiled, and as one CUDA graph per frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ckd_core.models.layers.vit import plain_attention
from ckd_core.tracking.engines.base import Engine, EngineSpec, EngineUnavailableError, cpu_flags
from ckd_core.tracking.engines.device_crops import CropProgram
from ckd_core.tracking.engines.graphs import FrameGraph
from ckd_core.tracking.engines.programs import SearchProgram, TemplateProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ckd_core.frame import Image
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.sampling import FrameImages

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(Engine):
    """Eager PyTorch. The engine owns `network`: it is moved to the device, converted to the precision, set to eval."""

    kind = "torch"
    cuts = True

    def __init__(self, network: TrackingNetwork, precision: str, device: str) -> None:
        super().__init__(f"{self.kind}/{precision}", device, EngineSpec.of(network.name, network.config))
        self._device = torch.device(device)
        network = network.to(device=self._device, dtype=torch.float32)
        if precision != "fp32":
            network.lower(DTYPES[precision])
        self._embed: Callable[..., Tensor] = TemplateProgram(network)
        self._search: Callable[..., Tensor] = SearchProgram(network)
        self._network = network
        self._narrow: SearchProgram | None = None
        if self.kind == "torch" and self._device.type == "cpu":
            self.narrow_size = network.config.narrow_size
        self._croppers: dict[bool, CropProgram] = {}
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

    def tokens_of(self, templates: Tensor) -> NDArray[np.float32]:
        """See `Engine`."""
        return cast("NDArray[np.float32]", templates[0].float().cpu().numpy())

    @torch.inference_mode()
    def track(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        with plain_attention(self._plain):
            return self._predict(templates, crops, response_weights)

    @torch.inference_mode()
    def track_images(
        self, templates: Tensor, images: FrameImages, response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        arrays = images.rgb, _bits(images.aux), images.geometry, images.tone
        crops = self._cropper(images.colored)(*map(self._upload, arrays))
        with plain_attention(self._plain):
            predictions = self._search(templates, crops, self._upload(response_weights))
        return cast("NDArray[np.float32]", predictions.cpu().numpy())

    def _cropper(self, colored: bool) -> CropProgram:
        if colored not in self._croppers:
            self._croppers[colored] = CropProgram(self.spec.search_size, colored).to(self._device)
        return self._croppers[colored]

    def _upload(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _predict(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        if self._device.type == "cpu" and len(crops) > 1:
            # One by one: a batch of small networks takes PyTorch up to three times as long per target, one of large
            # networks as long (`make bench BENCH=targets`), and a compiled network would be compiled for each count.
            if self.narrow_size:
                self._narrow_search()  # now, and not when the first target is calm
            rows = [slice(row, row + 1) for row in range(len(crops))]
            return np.concatenate([self._predict(templates[row], crops[row], response_weights[row]) for row in rows])
        search = self._search if crops.shape[2] != self.narrow_size else self._narrow_search()
        predictions = search(templates, self._upload(crops), self._upload(response_weights))
        return cast("NDArray[np.float32]", predictions.cpu().numpy())

    def _narrow_search(self) -> SearchProgram:
        if self._narrow is None:
            self._narrow = SearchProgram(self._network.narrowed())
        return self._narrow

    def join(self, templates: Sequence[Tensor]) -> Tensor:
        """See `Engine`."""
        return torch.cat(tuple(templates))


def _bits(aux: Image) -> NDArray[Any]:
    """The image as a dtype that every PyTorch device knows: uint16 as int16 of the same bits."""
    return np.ascontiguousarray(aux).view(np.int16) if aux.dtype == np.uint16 else np.ascontiguousarray(aux)


class CompiledEngine(TorchEngine):
    """torch.compile of the search program, one graph without breaks, compiled at the first call per batch size."""

    kind = "compile"
    cuts = False

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


class CudaGraphEngine(TorchEngine):
    """One CUDA graph per frame: upload of crops or of whole images, network, decoding, download of the result.

    The graph reads the engine's own pinned buffers (`search_crops`, `response_weights`), so a frame is one launch and
    one wait.
    """

    kind = "cudagraph"

    def __init__(self, network: TrackingNetwork, precision: str, device: str) -> None:
        if torch.device(device).type != "cuda" or not torch.cuda.is_available():
            raise EngineUnavailableError(f"CUDA graphs need a CUDA device, got {device}")
        super().__init__(network, precision, device)
        self._graphs: dict[object, FrameGraph] = {}

    @torch.inference_mode()
    def track(
        self, templates: Tensor, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        count = len(crops)
        own = self.search_crops(count), self.response_weights(count)
        return self._replay(count, self._search, own, templates, (crops, response_weights))

    @torch.inference_mode()
    def track_images(
        self, templates: Tensor, images: FrameImages, response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`."""
        crop = self._cropper(images.colored)

        def compute(tokens: Tensor, weights: Tensor, *inputs: Tensor) -> Tensor:
            return self._search(tokens, crop(*inputs), weights)

        inputs = response_weights, images.rgb, _bits(images.aux), images.geometry, images.tone
        key = images.colored, *((array.shape, array.dtype.str) for array in inputs)
        own = () if key in self._graphs else [self._allocate(array.shape, array.dtype.type) for array in inputs]
        return self._replay(key, compute, own, templates, inputs)

    def _replay(
        self,
        key: object,
        compute: Callable[..., Tensor],
        own: Sequence[NDArray[Any]],
        templates: Tensor,
        inputs: Sequence[NDArray[Any]],
    ) -> NDArray[np.float32]:
        """Run the graph of that key, captured now on `own` inputs if there is none yet."""
        with torch.cuda.device(self._device):  # graphs belong to the current device, whatever their tensors say
            if key not in self._graphs:
                for mine, given in zip(own, inputs, strict=True):
                    if mine is not given:
                        np.copyto(mine, given)
                self._graphs[key] = FrameGraph(compute, templates, own)
            return self._graphs[key].run(templates, inputs)
