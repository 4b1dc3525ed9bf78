"""Figures of images: score maps over the search region, and the boxes of several trackers in the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.plots.drawing import Drawing, PlotError, new_figure
from ckd_core.evaluation.report.charts import COLORS
from ckd_core.evaluation.running.conditions import parse_condition
from ckd_core.evaluation.scoring.metrics import overlap
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.frame import BoundingBox
from ckd_core.modality import to_network_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.plots.request import FigureRequest
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.frame import MultiModalFrame
    from ckd_core.models.network import TrackingNetwork

SHOWN_FRAMES = 4
TRUTH = "#ffffff"


@dataclass(frozen=True, slots=True, eq=False)
class FrameMaps:
    """What a network saw in one frame.

    Attributes:
        index: Number of the frame from 0.
        frame: As the tracker got it.
        box: What it reported.
        score: Its confidence.
        crops: Search regions [2, S, S, 3] uint8: colour, auxiliary.
        response: The head's score map [g, g], 0..1, before the window's weights.
    """

    index: int
    frame: MultiModalFrame
    box: BoundingBox
    score: float
    crops: NDArray[np.uint8]
    response: NDArray[np.float32]


def score_maps(network: TrackingNetwork, sequence: Sequence, condition: Condition) -> Iterator[FrameMaps]:
    """Track a sequence as the published trackers do, and yield the score map of every frame after the start."""
    from ckd_core.models.layers.head import HeadOutput
    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.engines.pytorch import TorchEngine
    from ckd_core.tracking.tracker import Tracker

    sequence = condition.thinned(sequence)
    seen: list[NDArray[np.float32]] = []

    def keep(_module: object, _inputs: object, output: object) -> None:
        if isinstance(output, HeadOutput):
            seen.append(output.score_map[0, 0].float().cpu().numpy())

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        engine = TorchEngine(network, "fp32", "cpu")
        tracker = Tracker(engine, sequence.modality, TrackerConfig().as_published())
        present, start = condition.presence(sequence), sequence.start
        tracker.start(condition.frame(sequence, start, present), condition.first_box(sequence))
        for index in range(start + 1, len(sequence)):
            frame = condition.frame(sequence, index, present)
            seen.clear()
            result = tracker.update(frame)
            if not seen:
                raise PlotError(f"{network.name} has no score map; expected a network with a centre head")
            yield FrameMaps(index, frame, result.box, result.score, engine.search_crops(1)[0].copy(), seen[-1])
    finally:
        for hook in hooks:
            hook.remove()


def open_one(request: FigureRequest) -> Sequence:
    """The sequence that is asked for, else the dataset's first one."""
    dataset = open_dataset(request.dataset, request.need_root(), cut=True)
    names = dataset.names
    return dataset.open(request.sequence or names[0])


def chosen_frames(request: FigureRequest, sequence: Sequence) -> list[int]:
    """The frames that are asked for (from 0), else some spread over the sequence.

    Raises:
        PlotError: A frame that the sequence does not have, or the one in which tracking starts.
    """
    first, count = sequence.start + 1, len(sequence)
    if not request.frames:
        return sorted({int(index) for index in np.linspace(first, count - 1, min(SHOWN_FRAMES, count - first))})
    wrong = [index for index in request.frames if not first <= index < count]
    if wrong:
        raise PlotError(f"{sequence.name} has no tracked frame {wrong[0]}; expected {first} to {count - 1}")
    return list(request.frames)


def map_over(crop: NDArray[np.uint8], response: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A search region [S, S, 3] uint8 with the score map as heat over it."""
    import matplotlib as mpl

    side = crop.shape[0]
    large = cv2.resize(response, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    heat = mpl.colormaps["jet"](large / max(float(large.max()), 1e-6))[..., :3] * 255
    return np.asarray(0.5 * crop + 0.5 * heat, dtype=np.uint8)


def response_figure(request: FigureRequest) -> Drawing:
    """Frames of both cameras beside their search regions with the score map over them (SDSTrack, Fig. 2)."""
    from ckd_core.models.checkpoint import load_model
    from ckd_core.tracking.engines.origin import model_of, weights_origin

    sequence = open_one(request)
    wanted = chosen_frames(request, sequence)
    model = model_of(request.model, request.weights)
    if sequence.aux_paths:
        weights_origin(model, request.weights).require([sequence.modality])
    network, _ = load_model(request.weights or model, model=model)
    condition = parse_condition(request.condition, request.seed)
    shown = [item for item in score_maps(network, sequence, condition) if item.index in wanted]
    figure = new_figure(8.4, 2.1 * len(shown) + 0.4)
    grid = figure.subplots(len(shown), 4, squeeze=False)
    rows = []
    titles = ("colour", sequence.modality.value, "score map, colour", f"score map, {sequence.modality.value}")
    for line, item in zip(grid, shown, strict=True):
        for axes, title, image in zip(line[:2], titles[:2], _images(item.frame), strict=True):
            _show(axes, image, title if item is shown[0] else "")
            _draw_box(axes, item.box, COLORS[1])
            _draw_box(axes, BoundingBox(*map(float, sequence.boxes[item.index])), TRUTH)
        line[0].set_ylabel(f"frame {item.index}", fontsize=8)
        for axes, title, crop in zip(line[2:], titles[2:], item.crops, strict=True):
            _show(axes, map_over(crop, item.response), title if item is shown[0] else "")
        y, x = np.unravel_index(int(item.response.argmax()), item.response.shape)
        values = dict(zip(("x", "y", "w", "h"), map(float, item.box), strict=True))
        rows.append({"frame": item.index, **values, "score": float(item.score), "peak_column": int(x),
                     "peak_row": int(y), "peak": float(item.response.max())})  # fmt: skip
    caption = (
        f"{sequence.name}, condition {condition}: {model}, the published tracker without states. Orange: its box, "
        "white: annotation. Maps before the Hann window, each scaled to its own maximum."
    )
    return Drawing(figure, caption, rows)


def frames_figure(request: FigureRequest) -> Drawing:
    """The boxes of several trackers in the same frames of both cameras."""
    sequence = open_one(request)
    wanted = chosen_frames(request, sequence)
    rule = get_rule(request.benchmark or request.dataset)
    tracks = {}
    for path in request.need_results("results: folders, archives or runs"):
        results = read_results(path, [sequence.name])
        boxes = results.tracks[sequence.name].boxes.copy()
        if rule.layout.one_based:
            boxes[:, :2] -= 1
        late = len(sequence) - len(boxes)
        if late and late != sequence.start:
            raise PlotError(f"{path}: {len(boxes)} boxes for the {len(sequence)} frames of {sequence.name}")
        tracks[results.tracker] = np.concatenate([np.full((late, 4), np.nan), boxes])
    cameras = 2 if sequence.aux_paths and sequence.rgb_paths else 1
    figure = new_figure(2.2 * len(wanted), 1.8 * cameras + 0.7)
    grid = figure.subplots(cameras, len(wanted), squeeze=False)
    rows = []
    for column, index in enumerate(wanted):
        images = [image for image in _images(sequence.frame(index)) if image is not None]
        for row, image in enumerate(images[:cameras]):
            axes = grid[row][column]
            _show(axes, image, f"frame {index}" if row == 0 else "")
            _draw_box(axes, BoundingBox(*map(float, sequence.boxes[index])), TRUTH)
            for place, boxes in enumerate(tracks.values()):
                _draw_box(axes, BoundingBox(*map(float, boxes[index])), COLORS[place % len(COLORS)])
        for name, boxes in tracks.items():
            shared = float(overlap(boxes[index][None], sequence.boxes[index][None])[0])
            values = dict(zip(("x", "y", "w", "h"), map(float, boxes[index]), strict=True))
            rows.append({"frame": index, "tracker": name, **values, "overlap": shared})
    handles = [_patch(COLORS[place % len(COLORS)], name) for place, name in enumerate(tracks)]
    figure.legend(handles=[*handles, _patch(TRUTH, "annotation")], loc="outside upper center", ncols=len(tracks) + 1)
    return Drawing(figure, f"{sequence.name} of {rule.title}: boxes of {', '.join(tracks)}.", rows)


def _images(frame: MultiModalFrame) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Both images as people see them; an auxiliary image of another size is stretched to the colour image."""
    if frame.aux is None:
        return frame.rgb, None
    aux = np.asarray(to_network_image(frame.aux, frame.modality), dtype=np.uint8)
    if frame.rgb is not None:
        aux = np.asarray(cv2.resize(aux, (frame.rgb.shape[1], frame.rgb.shape[0])), dtype=np.uint8)
    return frame.rgb, aux


def _show(axes: Axes, image: NDArray[np.uint8] | None, title: str) -> None:
    axes.imshow(np.zeros((2, 3, 3), dtype=np.uint8) if image is None else image)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_title(title if image is not None else f"{title} (missing)", fontsize=8)


def _patch(color: str, label: str = "", **options: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor="none" if color != TRUTH else "#dddddd", edgecolor=color, label=label, **options)


def _draw_box(axes: Axes, box: BoundingBox, color: str) -> None:
    from matplotlib.patches import Rectangle

    if np.isfinite(tuple(box)).all():
        axes.add_patch(Rectangle((box.x, box.y), box.w, box.h, fill=False, edgecolor=color, linewidth=1.4))
