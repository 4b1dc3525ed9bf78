"""What a training set consists of: template / search pairs, and batches of them.

A training set is map-style: `dataset[index]` is one `TrainingSample` that depends on (the dataset's seed, index) and on
nothing else, for every index from 0 up (a generator or a sampler has no last index). The loop uses the global index =
step * global batch + position, which is all that exact resume and sharding over processes need.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANNELS = 6


class PairError(TrackingError):
    """A training pair, or a source of pairs, that no network can be trained on."""


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One pair.

    Attributes:
        template: [6, ht, wt] float32, normalised, colour channels first; or features of a frozen stem in place of
            images, [C, h, w] float16, colour first (`ckd_core.data.real.features`).
        search: [6, hs, ws] float32, or features, as the template.
        template_box: [4] float32 `xywh` as shares of the crop's side (0..1 inside the crop).
        search_box: The same; wholly outside its crop where the target is absent.
        source: Where the pair comes from, for messages ("LasHeR/boy_3 frames 12, 40"); may be empty.
        skipped: Frames that were drawn before and cannot be read, each with the reason; the loop counts them.
        teacher: A teacher's features of template and search region, [2 * C, h, w] float16 each, colour first; None
            without a teacher.
    """

    template: Tensor
    search: Tensor
    template_box: Tensor
    search_box: Tensor
    source: str = ""
    skipped: tuple[str, ...] = ()
    teacher: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Pairs in one batch.

    Attributes:
        template: [B, 6, ht, wt], or features [B, C, h, w].
        search: [B, 6, hs, ws], or features.
        template_box: [B, 4].
        search_box: [B, 4].
        index: [B] int64, global indices.
        sources: One per pair.
        skipped: Of all pairs together.
        teacher: A teacher's features of the templates and of the search regions, [B, 2 * C, h, w] each; None unless
            every pair has them.
    """

    template: Tensor
    search: Tensor
    template_box: Tensor
    search_box: Tensor
    index: Tensor
    sources: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    teacher: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Count the pairs."""
        return int(self.template.shape[0])

    def _map(self, change: Callable[[Tensor], Tensor], sources: tuple[str, ...]) -> TrainingBatch:
        return TrainingBatch(
            change(self.template),
            change(self.search),
            change(self.template_box),
            change(self.search_box),
            change(self.index),
            sources,
            self.skipped,
            None if self.teacher is None else (change(self.teacher[0]), change(self.teacher[1])),
        )

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Copy to `device`, without blocking where memory is pinned."""
        return self._map(lambda t: t.to(device, non_blocking=True), self.sources)

    def pin_memory(self) -> TrainingBatch:
        """Copy to page-locked memory (called by the data loader)."""
        return self._map(lambda t: t.pin_memory(), self.sources)

    def chunks(self, parts: int) -> list[TrainingBatch]:
        """Split into `parts` equal batches, in order.

        Raises:
            PairError: The batch does not split into equal parts.
        """
        if parts < 1 or len(self) % parts:
            raise PairError(f"{len(self)} pairs do not split into {parts} equal parts; expected a multiple")
        size = len(self) // parts
        cuts = [slice(i * size, (i + 1) * size) for i in range(parts)]
        return [self._map(operator.itemgetter(cut), self.sources[cut]) for cut in cuts]


class PairDataset(Protocol):
    """Map-style training set; `dataset[index]` must depend on its seed and `index` alone."""

    def __getitem__(self, index: int) -> TrainingSample:
        """Return the pair of that global index (any index >= 0)."""
        ...


def check_sample(sample: TrainingSample) -> None:
    """Refuse a pair with a wrong shape or type, or boxes that are none; the template's must lie in its crop."""
    where = f" ({sample.source})" if sample.source else ""
    for name in ("template", "search"):
        image: Tensor = getattr(sample, name)
        is_image = image.dtype == torch.float32 and image.ndim == 3 and image.shape[0] == CHANNELS
        if not is_image and not (image.dtype == torch.float16 and image.ndim == 3):
            raise PairError(f"{name} is {image.dtype} {list(image.shape)}; expected float32 [{CHANNELS}, h, w]{where}")
    for name in ("template_box", "search_box"):
        box: Tensor = getattr(sample, name)
        if box.shape != (4,) or not bool(torch.isfinite(box).all()) or not bool((box[2:] > 0).all()):
            raise PairError(f"{name} is {box.tolist()}; expected 4 finite numbers xywh with w, h > 0{where}")
    x, y, w, h = sample.template_box.tolist()
    if x >= 1 or y >= 1 or x + w <= 0 or y + h <= 0:
        shown = [round(v, 4) for v in (x, y, w, h)]
        raise PairError(f"template_box {shown} has no area inside its crop; expected some within 0..1{where}")


def collate(items: Sequence[tuple[int, TrainingSample]]) -> TrainingBatch:
    """Stack (index, pair) items to one batch.

    Raises:
        PairError: There are no pairs, one fails `check_sample`, or the crops differ in size.
    """
    if not items:
        raise PairError("no pairs to stack; expected at least one")
    first = items[0][1]
    for _, sample in items:
        check_sample(sample)
        if sample.template.shape != first.template.shape or sample.search.shape != first.search.shape:
            raise PairError(
                f"pairs of one batch differ in size: template {list(sample.template.shape)} / search "
                f"{list(sample.search.shape)} ({sample.source or 'unnamed'}) beside {list(first.template.shape)} / "
                f"{list(first.search.shape)} ({first.source or 'unnamed'}); expected one size"
            )
    taught = [s.teacher for _, s in items if s.teacher is not None]
    return TrainingBatch(
        template=torch.stack([s.template for _, s in items]),
        search=torch.stack([s.search for _, s in items]),
        template_box=torch.stack([s.template_box.float() for _, s in items]),
        search_box=torch.stack([s.search_box.float() for _, s in items]),
        index=torch.tensor([i for i, _ in items], dtype=torch.int64),
        sources=tuple(s.source for _, s in items),
        skipped=tuple(frame for _, s in items for frame in s.skipped),
        teacher=(torch.stack([t for t, _ in taught]), torch.stack([s for _, s in taught]))
        if len(taught) == len(items)
        else None,
    )
