"""CKD's two students: style gap by block, and where their features lie with and without instance normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.evaluation.plots.drawing import Drawing, PlotError, new_figure
from ckd_core.evaluation.plots.pictures import chosen_frames, open_one
from ckd_core.evaluation.report.charts import COLORS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.plots.request import FigureRequest
    from ckd_core.models.ckd import CKD
    from ckd_core.models.ckd_small import CKDSmall

METHODS = ("pca", "tsne")
MAX_TOKENS = 600  # of each modality in a scatter plot
NORM_EPS = 1e-5


def student_tokens(network: CKD | CKDSmall, sequence: Sequence, frames: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Tokens [frames, N, C] of the colour and the auxiliary student after every block; see `student_blocks`.

    Crops are those that a perfect tracker would see: the template of the first frame, search regions around the
    annotation.
    """
    import torch

    from ckd_core.frame import BoundingBox
    from ckd_core.models.normalisation import normalise_images
    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.crop import window_around
    from ckd_core.tracking.view import FrameView

    config, view = network.config, FrameView(sequence.modality, TrackerConfig())

    def crop(index: int, factor: float, side: int) -> Tensor:
        frame, out = sequence.frame(index), np.zeros((2, side, side, 3), dtype=np.uint8)
        memory = view.check(frame, None)
        view.begin(frame, memory)
        view.cut(window_around(BoundingBox(*map(float, sequence.boxes[index])), factor), out)
        return normalise_images(out[0], out[1])

    template = crop(sequence.start, config.template_factor, config.template_size)
    search = torch.stack([crop(index, config.search_factor, config.search_size) for index in frames])
    with torch.inference_mode():
        return network.student_blocks(template[None].repeat(len(frames), 1, 1, 1), search)


def instance_normalised(tokens: Tensor) -> Tensor:
    """Every channel of every sample to mean 0 and deviation 1 over its tokens: what CKD compares as content."""
    import torch

    variance, mean = torch.var_mean(tokens, dim=1, correction=0, keepdim=True)
    return (tokens - mean) * torch.rsqrt(variance + NORM_EPS)


def style(request: FigureRequest) -> Drawing:
    """Style gap of the two students by block, and their features in two dimensions (CKD, Fig. 2).

    Raises:
        PlotError: A network without two students, a sequence with one camera, or an unknown method.
    """
    from ckd_core.models.checkpoint import load_model
    from ckd_core.models.ckd import CKD
    from ckd_core.models.ckd_small import CKDSmall
    from ckd_core.objectives.ckd import style_per_block
    from ckd_core.tracking.engines.origin import model_of, weights_origin

    if request.method not in METHODS:
        raise PlotError(f"method is {request.method!r}; expected {' or '.join(METHODS)}")
    model = model_of(request.model, request.weights)
    sequence = open_one(request)
    if not (sequence.rgb_paths and sequence.aux_paths):
        raise PlotError(f"{sequence.name} has one camera; expected two")
    weights_origin(model, request.weights).require([sequence.modality])
    network, _ = load_model(request.weights or model, model=model)
    if not isinstance(network, CKD | CKDSmall):
        raise PlotError(f"{model} has no two students; expected a network of the CKD family, ckd_b256 or ckd_s128")
    frames = [i for i in chosen_frames(request, sequence) if sequence.present[i]]
    if not frames:
        raise PlotError(f"the object is in none of the chosen frames of {sequence.name}; expected at least one")
    blocks = student_tokens(network, sequence, frames)
    gap = style_per_block(*zip(*blocks, strict=True)).numpy()
    normalised = [(instance_normalised(rgb), instance_normalised(aux)) for rgb, aux in blocks]
    after = style_per_block(*zip(*normalised, strict=True)).numpy()
    figure = new_figure(8.4, 3.0)
    left, middle, right = figure.subplots(1, 3)
    count = np.arange(len(gap))
    left.bar(count - 0.2, gap, 0.4, label="features", color=COLORS[1])
    left.bar(count + 0.2, after, 0.4, label="instance-normalised", color=COLORS[0])
    left.set_xlabel("block")
    left.set_ylabel("style gap of the students")
    left.set_xticks(count[:: max(1, len(count) // 6)])
    left.set_ylim(0, 1.35 * float(max(gap.max(), after.max())))
    left.legend(loc="upper right")
    rows: list[dict[str, Any]] = [
        {"panel": "style gap", "block": int(i), "camera": "", "x": float(a), "y": float(b)}
        for i, a, b in zip(count, gap, after, strict=True)
    ]
    for axes, name, (rgb, aux) in (
        (middle, "features", blocks[-1]),
        (right, "instance-normalised", normalised[-1]),
    ):
        places = _flat(rgb, aux, request.method, request.seed)
        half = len(places) // 2
        cameras = (("colour", places[:half], COLORS[1]), (sequence.modality.value, places[half:], COLORS[0]))
        for camera, part, color in cameras:
            axes.scatter(part[:, 0], part[:, 1], s=4, alpha=0.6, label=camera, color=color, linewidths=0)
            where = {"panel": name, "block": len(blocks) - 1, "camera": camera}
            rows += [{**where, "x": float(x), "y": float(y)} for x, y in part]
        axes.set_title(name, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    middle.legend(markerscale=3, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=2, frameon=False)
    caption = (
        f"{model} on {len(frames)} frames of {sequence.name}. Left: squared difference of the students' token means "
        "and deviations by block; in the CSV, x before and y after normalisation. Middle, right: tokens of the last "
        f"block, {request.method.upper()}."
    )
    return Drawing(figure, caption, rows)


def _flat(rgb: Tensor, aux: Tensor, method: str, seed: int) -> NDArray[np.float64]:
    """Tokens of both students in two dimensions [2 n, 2]: colour first."""
    width = rgb.shape[2]
    pair = [part.reshape(-1, width).double().numpy() for part in (rgb, aux)]
    chosen = np.random.default_rng(seed).permutation(len(pair[0]))[:MAX_TOKENS]
    tokens = np.concatenate([part[chosen] for part in pair])
    if method == "pca":
        centred = tokens - tokens.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(centred @ axes[:2].T)
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise PlotError("method tsne needs the package scikit-learn (pip install 'sdstrack_ros[train]')") from error
    perplexity = min(30.0, (len(tokens) - 1) / 3)
    return np.asarray(TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(tokens))
