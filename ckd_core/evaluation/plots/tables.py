"""What networks cost, beside what they reach."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ckd_core.evaluation.plots.drawing import Drawing, PlotError, new_figure
from ckd_core.evaluation.plots.numbers import frames_per_second
from ckd_core.evaluation.running.manifest import read_manifest

if TYPE_CHECKING:
    from ckd_core.evaluation.plots.request import FigureRequest
    from ckd_core.models.network import TrackingNetwork

COLUMNS = ("network", "run", "GFLOPs", "parameters / M", "trained / M", "FPS")


def gflops(network: TrackingNetwork) -> float:
    """Billions of operations for one frame: search region and head, the template kept. Multiply and add are two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = network.config
    template = torch.zeros(1, 6, config.template_size, config.template_size)
    search = torch.zeros(1, 6, config.search_size, config.search_size)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode():
        tokens = network.embed_template(template)
        with counter:
            network.track(tokens, search)
    return float(counter.get_total_flops()) / 1e9


def cost(request: FigureRequest) -> Drawing:
    """GFLOPs, parameters, trained ones, frames per second and the benchmark's numbers, one row per network or run.

    Raises:
        PlotError: Neither runs nor names of networks.
    """
    rows: list[dict[str, Any]] = []
    metrics: list[str] = []
    for run in request.results:
        manifest = read_manifest(run)
        tracker = manifest["run"]["tracker"]
        if tracker.get("kind") != "model":
            raise PlotError(f"{run} is a run of {tracker.get('kind')}; expected runs of a network")
        row = _network_row(str(tracker["model"])) | {"run": run.name, "FPS": frames_per_second(run)}
        try:
            (score,) = json.loads((run / "score.json").read_text())["trackers"].values()
        except (OSError, ValueError, KeyError) as error:
            raise PlotError(
                f"{run} has no score.json: {error}; expected a finished run of sdstrack benchmark"
            ) from error
        metrics += [name for name in score["metrics"] if name not in metrics]
        rows.append(row | score["metrics"])
    rows += [_network_row(name.strip()) for name in (request.model or "").split(",") if name.strip()]
    if not rows:
        raise PlotError("there is no network; expected runs of sdstrack benchmark, or --model NAME,NAME")
    columns = [*COLUMNS, *metrics]
    complete = [{name: row.get(name, "") for name in columns} for row in rows]
    figure = new_figure(1.1 * len(columns), 0.5 + 0.28 * (len(rows) + 1))
    axes = figure.subplots()
    axes.axis("off")
    cells = [[_text(row[name], name) for name in columns] for row in complete]
    table = axes.table(cells, colLabels=columns, loc="center", cellLoc="right", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(range(len(columns)))
    data = f" Runs: {', '.join(_data(run) for run in request.results)}." if request.results else ""
    caption = (
        "GFLOPs of one frame with the template kept, a multiplication and an addition counted as two; trained: what "
        f"the published recipe of the network trains.{data}"
    )
    return Drawing(figure, caption, complete)


def _data(run: Any) -> str:
    manifest = read_manifest(run)
    device = ", ".join(str(name) for name in manifest["run"]["devices"].values())
    return f"{run.name}: {manifest['run']['dataset']}, {len(manifest['sequences'])} sequences, {device}"


def _network_row(name: str) -> dict[str, Any]:
    from ckd_core.models.registry import build_model

    network = build_model(name).eval()
    return {
        "network": name,
        "run": "",
        "GFLOPs": gflops(network),
        "parameters / M": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        "trained / M": sum(p.numel() for n, p in network.named_parameters() if _is_trained(name, n)) / 1e6,
        "FPS": "",
    }


def _is_trained(network: str, parameter: str) -> bool:
    """Whether the published recipe trains it: of SDSTrack adapters, auxiliary embedding and last norm; else all."""
    if network in ("sdstrack_b256", "sdstrack_tiny_test"):
        return any(part in parameter for part in ("Adapter", "multimodal", "backbone.norm"))
    return "stem." not in parameter


def _text(value: object, name: str) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if name in COLUMNS else f"{value:.3f}"
