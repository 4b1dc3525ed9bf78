"""How a network runs: one interface, several engines, and the choice between them.

An engine is named `kind/precision`, for example `torch/fp32`; a bare kind means its first precision. `auto` picks the
kind that is usually fastest on this machine, `measure` times the candidates and keeps the fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.models.config import NetworkConfig

# Template tokens of one or more targets, [B, 2, tokens, width], in whatever memory the engine keeps them.
Templates = Any


class EngineError(TrackingError):
    """An engine that does not exist, cannot run here, or was given what it cannot take."""


class EngineUnavailableError(EngineError):
    """An engine that exists but cannot run here: a library, a device or an instruction set is missing."""


# Precisions by kind, the first is the default. tensorrt: through ONNX Runtime.
KINDS: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16", "fp16"),
    "compile": ("fp32", "bf16", "fp16"),
    "cudagraph": ("fp16", "bf16", "fp32"),
    "onnx": ("fp32", "fp16"),
    "tensorrt": ("fp16", "fp32"),
    "openvino": ("fp32", "bf16", "int8"),
}
CHOICES = ("auto", "measure")
CPU_FLAGS = Path("/proc/cpuinfo")


def parse_engine(name: str) -> tuple[str, str]:
    """`kind/precision` or `kind` -> (kind, precision). Errors: EngineError for one that does not exist."""
    kind, slash, precision = name.partition("/")
    if kind in KINDS and (not slash or precision in KINDS[kind]):
        return kind, precision or KINDS[kind][0]
    known = ", ".join(f"{kind}/{precision}" for kind, precisions in KINDS.items() for precision in precisions)
    if name in CHOICES:
        raise EngineError(f"{name!r} is a choice between engines, here one must be named: {known}")
    raise EngineError(f"no engine {name!r}; there are {', '.join(CHOICES)}, {known}")


def device_family(device: str) -> str:
    """`cpu`, `cuda` or `auto` of a device's name. Errors: EngineError for one that does not exist."""
    family, _, number = device.partition(":")
    if device != "auto" and (family not in ("cpu", "cuda") or (":" in device and not number.isdecimal())):
        raise EngineError(f"no device {device!r}; there are cpu, cuda, cuda:N and auto")
    return family


def cpu_flags() -> frozenset[str]:
    """Instruction sets the kernel reports for this CPU; empty where it does not say."""
    try:
        lines = CPU_FLAGS.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Shapes an engine works with; see `NetworkConfig` for their meaning."""

    model: str
    template_size: int
    search_size: int
    template_factor: float
    search_factor: float
    grid: int
    square_boxes: bool = False

    @classmethod
    def of(cls, model: str, config: NetworkConfig) -> EngineSpec:
        """What a network's configuration says."""
        return cls(
            model=model,
            template_size=config.template_size,
            search_size=config.search_size,
            template_factor=config.template_factor,
            search_factor=config.search_factor,
            grid=config.grid,
            square_boxes=config.square_boxes,
        )


class Engine(ABC):
    """Runs one network on one device. Not for use by two threads at once.

    name: `kind/precision`. device: where it really runs. spec: its shapes.
    """

    def __init__(self, name: str, device: str, spec: EngineSpec) -> None:
        self.name = name
        self.device = device
        self.spec = spec
        self._buffers: dict[tuple[str, int], NDArray[Any]] = {}

    def template_crops(self, count: int) -> NDArray[np.uint8]:
        """Kept input buffer [count, 2, T, T, 3] uint8 for template crops (colour, auxiliary)."""
        return self._buffer("template", count, (2, self.spec.template_size, self.spec.template_size, 3), np.uint8)

    def search_crops(self, count: int) -> NDArray[np.uint8]:
        """Kept input buffer [count, 2, S, S, 3] uint8 for search crops (colour, auxiliary)."""
        return self._buffer("search", count, (2, self.spec.search_size, self.spec.search_size, 3), np.uint8)

    def windows(self, count: int) -> NDArray[np.float32]:
        """Kept input buffer [count, 1, g, g] float32 for the windows laid over the responses."""
        return self._buffer("window", count, (1, self.spec.grid, self.spec.grid), np.float32)

    def _buffer(self, kind: str, count: int, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        buffer = self._buffers.get((kind, count))
        if buffer is None:
            buffer = self._allocate((count, *shape), dtype)
            self._buffers[kind, count] = buffer
        return buffer

    def _allocate(self, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        return np.zeros(shape, dtype=dtype)

    @abstractmethod
    def embed_template(self, crops: NDArray[np.uint8]) -> Templates:
        """Template tokens of `crops` [B, 2, T, T, 3]; they stay valid whatever runs later."""

    @abstractmethod
    def track(
        self, templates: Templates, crops: NDArray[np.uint8], windows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Answers [B, 7] (see `programs.SearchProgram`) in host memory; one copy from the device."""

    @abstractmethod
    def join(self, templates: Sequence[Templates]) -> Templates:
        """Templates of several targets as one batch, in order."""
