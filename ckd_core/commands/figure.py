"""`sdstrack figure`: the papers' figures, from runs, raw results, weights and training runs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    name: Annotated[
        str,
        typer.Argument(
            help="success, precision, radar, speed (PR against FPS), robustness, score-maps, frames, style (CKD's "
            "students), sweep (a key of training runs) or cost."
        ),
    ],
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs or raw results; for robustness its folders, for sweep those of training runs."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Write OUT.png, OUT.pdf and OUT.csv.")] = ...,  # type: ignore[assignment]
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", "-b", help="Rule of the numbers, as for score.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Annotations, as for score.")] = None,
    attributes: Annotated[Path | None, typer.Option(help="radar: challenge attributes, as for score.")] = None,
    root: Annotated[Path | None, typer.Option(help="score-maps, frames, style: folder of the dataset.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Its layout.")] = "folder",
    sequence: Annotated[str | None, typer.Option(help="One of its sequences; default: the first.")] = None,
    frames: Annotated[str | None, typer.Option(help="Frames from 0, separated by commas; default: four.")] = None,
    model: Annotated[str | None, typer.Option(help="Network; cost: several, separated by commas.")] = None,
    weights: options.Weights = None,
    condition: Annotated[str, typer.Option(help="score-maps: as for robustness, e.g. occluded=0.3@both.")] = "full",
    points: Annotated[
        Path | None, typer.Option(help="speed: CSV with the columns tracker, fps and the metric, of others' trackers.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="sweep: key of the recipe, e.g. objective.style_weight.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to show; default: the figure's own.")] = None,
    method: Annotated[str, typer.Option(help="style: pca or tsne.")] = "pca",
    seed: Annotated[int, typer.Option(min=0, help="For what is random.")] = 0,
) -> None:
    """Draw one figure as PNG and PDF, with the numbers behind it as CSV; its caption says the data.

    Example: sdstrack figure success out/run APFNet.tar.gz -b lasher --truth lasher_gt/ --out fig5
    """
    from ckd_core.evaluation.plots.figure import draw_figure
    from ckd_core.evaluation.plots.request import FigureRequest
    from ckd_core.locks import folder_lock

    try:
        numbers = tuple(int(part) for part in frames.split(",")) if frames else ()
    except ValueError:
        raise typer.BadParameter(f"'{frames}'; expected numbers such as 10,50,90", param_hint="--frames") from None
    request = FigureRequest(
        results=tuple(results or ()), benchmark=benchmark, truth=truth, attributes=attributes, root=root,
        dataset=dataset, sequence=sequence, frames=numbers, model=model, weights=weights, condition=condition,
        points=points, key=key, metric=metric, method=method, seed=seed,
    )  # fmt: skip
    with folder_lock(out.parent, "sdstrack figure"):
        for path in draw_figure(name, request, out):
            say(f"wrote {path}")
