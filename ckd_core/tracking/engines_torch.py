"""Engines that run the network in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ckd_core.tracking.engines import Engine, EngineSpec
from ckd_core.tracking.programs import SearchProgram, TemplateProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(Engine):
    """Eager PyTorch. `network` is taken over: moved to the device, converted to the precision, set to eval."""

    kind = "torch"

    def __init__(self, network: TrackingNetwork, precision: str, device: str) -> None:
        super().__init__(f"{self.kind}/{precision}", device, EngineSpec.of(network.name, network.config))
        dtype = DTYPES[precision]
        self._device = torch.device(device)
        network = network.to(device=self._device, dtype=dtype).eval().requires_grad_(False)
        self._embed = TemplateProgram(network, dtype).to(self._device).eval()
        self._search = SearchProgram(network, dtype).to(self._device).eval()

    def _allocate(self, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        array: NDArray[Any] = np.zeros(shape, dtype=dtype)
        if self._device.type != "cuda":
            return array
        return torch.from_numpy(array).pin_memory().numpy()

    @torch.inference_mode()
    def embed_template(self, crops: NDArray[np.uint8]) -> Tensor:
        """See `Engine`."""
        return cast("Tensor", self._embed(torch.from_numpy(crops).to(self._device)))

    @torch.inference_mode()
    def track(self, templates: Tensor, crops: NDArray[np.uint8], windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine`."""
        search = torch.from_numpy(crops).to(self._device, non_blocking=True)
        answers = self._search(templates, search, torch.from_numpy(windows).to(self._device, non_blocking=True))
        return cast("NDArray[np.float32]", answers.cpu().numpy())

    def join(self, templates: Sequence[Tensor]) -> Tensor:
        """See `Engine`."""
        return torch.cat(tuple(templates))
