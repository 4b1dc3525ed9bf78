"""Networks: our forward against the published order of computation, one frame, batch 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import _published_order as published
from benchmarks.harness import Row, interleaved, rows_against
from ckd_core.models.layers.vit import plain_attention
from ckd_core.models.registry import build_model
from ckd_core.tracking.engines.graphs import capture_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork

    Call = Callable[[], object]

TITLE = "Networks: one frame, batch 1, random weights (ratio: how much faster than the published order)"
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("SDSTrack-B, elimination on", "sdstrack_b256", {}),
    ("SDSTrack-B, elimination off", "sdstrack_b256", {"ce_blocks": ()}),
    ("CKD-B, elimination off", "ckd_b256", {}),
    ("CKD-B, joint elimination", "ckd_b256_mce", {}),
)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(quick: bool) -> list[Row]:
    """CPU rows in float32 and bfloat16; where a CUDA device is present, the same there, compiled and as a graph.

    All variants of a network on one device share one interleaved run. `ratio` is against the published order in the
    same precision, `ratio_f32` against the published order in float32, which is how the published trackers run.
    """
    rounds = 5 if quick else 21
    rows: list[Row] = []
    with torch.inference_mode():
        for title, name, overrides in CASES:
            rows += _case(title, name, overrides, "cpu", rounds)
            if torch.cuda.is_available():
                rows += _case(title, name, overrides, "cuda", 5 * rounds)
    return rows


def _case(title: str, name: str, overrides: dict[str, Any], device: str, rounds: int) -> list[Row]:
    calls: dict[str, Call] = {}
    flops: dict[str, float] = {}
    for precision, dtype in PRECISIONS.items():
        for variant, call in _variants(name, overrides, device, dtype).items():
            calls[f"{variant}, {precision}"] = call if device == "cpu" else _waited(call)
        for variant in ("published order", "ours"):
            key = f"{variant}, {precision}"
            flops[key] = _gflop(calls[key])
    timings = interleaved(calls, rounds)
    against_f32 = {str(row["name"]): row["ratio"] for row in rows_against(timings, "published order, float32")}
    rows = []
    for precision in PRECISIONS:
        group = {key: timing for key, timing in timings.items() if key.endswith(precision)}
        for row in rows_against(group, f"published order, {precision}"):
            key = str(row["name"])
            gflop = round(flops.get(key, flops[f"ours, {precision}"]), 1)
            rows.append({"network": title, "on": device, **row, "ratio_f32": against_f32[key], "gflop": gflop})
    return rows


def _variants(name: str, overrides: dict[str, Any], device: str, dtype: torch.dtype) -> dict[str, Call]:
    model = build_model(name, **overrides).eval().to(device, dtype)
    template, search = _images(model, device, dtype)
    kept = model.embed_template(template)
    restated = published.sdstrack if name.startswith("sdstrack") else published.ckd
    calls: dict[str, Call] = {
        "published order": lambda: restated(model, template, search),
        "ours": lambda: model.track(kept, search),
    }
    if device == "cuda":
        return _cuda_variants(model, kept, search, calls)

    def plain() -> object:
        with plain_attention():
            return model.track(kept, search)

    return {**calls, "ours, plain attention": plain}


def _images(model: TrackingNetwork, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = (model.config.template_size, model.config.search_size)
    template, search = (torch.randn(1, 6, side, side, generator=generator).to(device, dtype) for side in sides)
    return template, search


def _gflop(call: Call) -> float:
    """Operations of one call, counted from shapes: a multiplication and an addition are two."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return float(counter.get_total_flops()) / 1e9


def _cuda_variants(model: TrackingNetwork, kept: Tensor, search: Tensor, calls: dict[str, Call]) -> dict[str, Call]:
    compiled = torch.compile(model.track, fullgraph=True)
    return {
        **calls,
        "ours, CUDA graph": capture_graph(lambda: model.track(kept, search)).replay,
        "ours, compiled": lambda: compiled(kept, search),
        "ours, compiled, CUDA graph": capture_graph(lambda: compiled(kept, search)).replay,
    }


def _waited(call: Call) -> Call:
    def timed() -> None:
        call()
        torch.cuda.synchronize()

    return timed
