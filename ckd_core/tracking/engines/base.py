"""How a network runs: one interface, several engines, and the choice between them.

An engine is named `kind/precision`, for example `torch/fp32`; a bare kind means its first precision. `auto` picks the
kind that is usually fastest on this machine, `measure` times the candidates and keeps the fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.models.config import NetworkConfig
    from ckd_core.tracking.sampling import FrameImages

# Template tokens of one or more targets, [B, 2, tokens, width], in whatever memory the engine keeps them.
Templates = Any


class EngineError(TrackingError):
    """An engine that does not exist or cannot run here, or input that it cannot use."""


class EngineUnavailableError(EngineError):
    """An engine that exists but cannot run here: a library, a device or an instruction set is missing."""


class EngineFailedError(EngineError):
    """An engine that ran and failed, or answered with numbers that are not finite; the input is not to blame."""


class Prediction(NamedTuple):
    """One row of what `Engine.track` returns: what the network says about one crop.

    Attributes:
        cx: Centre of the box at the highest weighted response, as a share of the crop, like the three below.
        cy: Its centre from the top.
        w: Its width.
        h: Its height.
        score: The highest weighted response, 0..1.
        raw_score: The highest response before it is weighted.
        rival: The highest weighted response away from the peak: further than an eighth of the map in x or y.
        rival_cx: Centre of the box at that response, as a share of the crop, like the three below.
        rival_cy: Its centre from the top.
        rival_w: Its width.
        rival_h: Its height.
    """

    cx: float
    cy: float
    w: float
    h: float
    score: float
    raw_score: float
    rival: float
    rival_cx: float
    rival_cy: float
    rival_w: float
    rival_h: float


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
    """Split `kind/precision` or `kind` into (kind, precision).

    Raises:
        EngineError: There is no such engine, or the name leaves the choice open (`auto`, `measure`).
    """
    kind, slash, precision = name.partition("/")
    if kind in KINDS and (not slash or precision in KINDS[kind]):
        return kind, precision or KINDS[kind][0]
    known = ", ".join(f"{kind}/{precision}" for kind, precisions in KINDS.items() for precision in precisions)
    if name in CHOICES:
        raise EngineError(f"engine is {name!r}, which leaves the choice open; expected one of: {known}")
    raise EngineError(f"unknown engine {name!r}; expected one of: {', '.join(CHOICES)}, {known}")


def device_family(device: str) -> str:
    """Return `cpu`, `cuda` or `auto` for a device's name.

    Raises:
        EngineError: No device can have this name.
    """
    family, _, number = device.partition(":")
    if device != "auto" and (family not in ("cpu", "cuda") or (":" in device and not number.isdecimal())):
        raise EngineError(f"unknown device {device!r}; expected one of: cpu, cuda, cuda:N, auto")
    return family


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets that the kernel reports for this CPU; empty where it reports none."""
    try:
        lines = CPU_FLAGS.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bf16 by instructions of its own; without them every product goes through float32."""
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})


def middle_of(values: NDArray[Any], side: int) -> NDArray[Any]:
    """The middle of a batch of search crops [B, 2, S, S, 3] or response weights [B, 1, g, g], `side` long both ways."""
    edge = (values.shape[2] - side) // 2
    return values[:, :, edge : edge + side, edge : edge + side]


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
        """Take the shapes from a network's configuration."""
        return cls(
            model=model,
            template_size=config.template_size,
            search_size=config.search_size,
            template_factor=config.template_factor,
            search_factor=config.search_factor,
            grid=config.grid,
            square_boxes=config.square_boxes,
        )

    def narrowed(self, side: int) -> EngineSpec:
        """The shapes with search crops of a smaller side at the same scale."""
        share = side / self.search_size
        return replace(self, search_size=side, search_factor=self.search_factor * share, grid=round(self.grid * share))


class Engine(ABC):
    """Runs one network on one device. Not for use by two threads at once.

    Input buffers are allocated once per batch size and returned again by every later call, so that a frame is cropped
    straight into memory that the engine reads.

    Attributes:
        name: `kind/precision`.
        device: Where it really runs.
        spec: The network's shapes.
        chosen_by: How it came to be this engine, for the user; set by what starts it.
        trouble: What is wrong with it, in words; '' while nothing is.
        threads: CPU threads that a frame's work may use; set by what starts the engine.
        cuts: Whether it can cut windows out of a frame's images itself (`track_images`).
        narrow_size: Side of the smaller search crops that `track` takes as well, of the same scale; 0: none.
    """

    chosen_by = ""
    trouble = ""
    threads = 1
    cuts = False
    narrow_size = 0

    def __init__(self, name: str, device: str, spec: EngineSpec) -> None:
        self.name = name
        self.device = device
        self.spec = spec
        self._buffers: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def template_crops(self, count: int) -> NDArray[np.uint8]:
        """Return the input buffer for template crops, [count, 2, T, T, 3] uint8 (colour, auxiliary)."""
        return self._buffer("template", count, (2, self.spec.template_size, self.spec.template_size, 3), np.uint8)

    def search_crops(self, count: int, side: int = 0) -> NDArray[np.uint8]:
        """Return the input buffer for search crops, [count, 2, S, S, 3] uint8 (colour, auxiliary).

        Args:
            count: Of targets.
            side: S, `narrow_size` or 0 for the network's own.
        """
        side = side or self.spec.search_size
        return self._buffer("search", count, (2, side, side, 3), np.uint8)

    def response_weights(self, count: int, side: int = 0) -> NDArray[np.float32]:
        """Return the input buffer for the weights of the response maps, [count, 1, g, g] float32; args as above."""
        grid = self.spec.narrowed(side).grid if side else self.spec.grid
        return self._buffer("weights", count, (1, grid, grid), np.float32)

    def _buffer(self, kind: str, count: int, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        key = kind, (count, *shape)
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._allocate((count, *shape), dtype)
            self._buffers[key] = buffer
        return buffer

    def _allocate(self, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        return np.zeros(shape, dtype=dtype)

    @abstractmethod
    def embed_template(self, crops: NDArray[np.uint8]) -> Templates:
        """Return the template tokens of `crops` [B, 2, T, T, 3]; they stay valid whatever runs later."""

    def tokens_of(self, templates: Templates) -> NDArray[np.float32]:
        """Template tokens [2, N, C] of the first of `templates`, as numbers in host memory."""
        return np.asarray(templates[0], dtype=np.float32)

    @abstractmethod
    def track(
        self, templates: Templates, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Find each target in its crop.

        Args:
            templates: Tokens of B targets.
            crops: Search crops [B, 2, S, S, 3] uint8; S is the network's own or `narrow_size`.
            response_weights: [B, 1, g, g] float32, multiplied into the response maps.

        Returns:
            [B, 11] float32 in host memory, each row a `Prediction`; valid until the next call.
        """

    def track_images(
        self, templates: Templates, images: FrameImages, response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """`track` with crops that the device cuts out of the frame's images, which are uploaded once for all targets.

        Raises:
            EngineError: The engine does not cut.
        """
        del templates, images, response_weights
        raise EngineError(f"{self.name} does not cut windows; expected one of: torch, cudagraph")

    def blend(self, first: Templates, newest: Templates, share: float) -> Templates:
        """Return templates that lie `share` of the way from the `first` to the `newest` ones of the same targets."""
        return first + (newest - first) * share

    @abstractmethod
    def join(self, templates: Sequence[Templates]) -> Templates:
        """Return the templates of several targets as one batch, in order."""
