"""What is measured, the most telling rows first."""

from __future__ import annotations

from dataclasses import asdict, dataclass

NETWORKS = ("sdstrack_b256", "sdstrack_m256", "ckd_b256", "sdstrack_s128", "ckd_s128")
PUBLISHED = "published order/fp32"  # what the published trackers do, in eager float32
OTHERS = ("cudagraph/bf16", "cudagraph/fp32", "torch/fp32", "torch/bf16", "torch/fp16")
SEVERAL = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One row.

    Attributes:
        network: Name in the registry.
        engine: `kind/precision`, or `PUBLISHED`.
        crops: Where windows are cut: cpu or device.
        targets: How many are followed.
        streams: Trackers at once, each in a thread and CUDA stream of its own.
    """

    network: str
    engine: str
    crops: str = "cpu"
    targets: int = 1
    streams: int = 1

    @property
    def key(self) -> str:
        """The row's name in the JSON file."""
        return "; ".join(str(value) for value in asdict(self).values())


def cases(device: str, networks: tuple[str, ...], quick: bool) -> list[Case]:
    """Every row of a device; those that first compile come last, for they may use up the time."""
    rows, slow = [], []
    for network in networks:
        published = [Case(network, PUBLISHED)] if network.endswith("b256") else []
        if device == "cpu":
            rows += [Case(network, "torch/fp32"), Case(network, "torch/fp32", "device")]
            if not quick:
                rows += [*published, Case(network, "onnx/fp32"), Case(network, "torch/fp32", "device", SEVERAL)]
            continue
        best = "cudagraph/fp16"
        rows += [*published, Case(network, best), Case(network, best, "device")]
        if quick:
            continue
        rows += [Case(network, best, crops, SEVERAL) for crops in ("cpu", "device")]
        rows += [Case(network, best, "device", 1, 2)]
        rows += [Case(network, name) for name in OTHERS]
        rows += [Case(network, "onnx/fp32"), Case(network, "onnx/fp16")]
        slow += [Case(network, "compile/fp16"), Case(network, "tensorrt/fp16")]
    return rows + sorted(slow, key=lambda case: networks.index(case.network))
