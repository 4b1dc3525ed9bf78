"""The sequences of a run and their annotations, read once and checked before anything is tracked."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.annotations import read_sequence_truth
from ckd_core.evaluation.scoring.rules import BenchmarkRule, get_rule
from ckd_core.evaluation.scoring.score import require_scorable
from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ckd_core.data.datasets import Dataset
    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.evaluation.scoring.score import GroundTruth
    from ckd_core.frame import Modality

logger = logging.getLogger(__name__)


class RunError(TrackingError):
    """A run that cannot start, or whose sequences failed."""


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """Sequences and annotations of a run.

    Attributes:
        dataset: Names and folders of the sequences.
        sequences: The opened sequences by name; their images are read when they are tracked.
        truths: The annotations by name, as the benchmark's own numbers.

    """

    dataset: Dataset
    sequences: Mapping[str, Sequence]
    truths: Mapping[str, GroundTruth]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all sequences in the benchmark's order."""
        return self.dataset.names

    @property
    def rule(self) -> BenchmarkRule:
        """The benchmark's protocol."""
        return get_rule(self.dataset.layout.name)

    @property
    def two_cameras(self) -> list[str]:
        """Names of the sequences that have a colour and an auxiliary camera."""
        return [name for name in self.names if self.sequences[name].rgb_paths and self.sequences[name].aux_paths]

    @property
    def modalities(self) -> set[Modality]:
        """Kinds of the auxiliary cameras that the sequences have."""
        return {self.sequences[name].modality for name in self.names if self.sequences[name].aux_paths}

    def __len__(self) -> int:
        return len(self.dataset)

    def select(self, names: list[str]) -> RunInputs:
        """Only the named sequences, in the dataset's order.

        Raises:
            DatasetError: A name that is not there.

        """
        return replace(self, dataset=self.dataset.select(names))

    def under(self, condition: Condition) -> RunInputs:
        """The frames that a condition shows, and their annotation.

        Raises:
            RunError: A condition that leaves frames out, on sequences without one annotated row per frame.

        """
        if condition.every == 1:
            return self
        truths = {name: _thinned(self.truths[name], self.sequences[name], condition) for name in self.names}
        sequences = {name: condition.thinned(self.sequences[name]) for name in self.names}
        return replace(self, sequences=sequences, truths=truths)

    def joined(self, other: RunInputs) -> RunInputs:
        """These sequences followed by those of another dataset in the same layout."""
        folders = (*self.dataset.folders, *other.dataset.folders)
        return RunInputs(
            replace(self.dataset, folders=folders),
            {**self.sequences, **other.sequences},
            {**self.truths, **other.truths},
        )

    def scored_truths(self) -> list[GroundTruth]:
        """The annotations in the benchmark's order, with image sizes where the rule cuts boxes at the border."""
        truths = [self.truths[name] for name in self.names]
        if not self.rule.long_term:
            return truths
        images = (self.sequences[truth.name].rgb(0) for truth in truths)
        sizes = [None if image is None else (image.shape[1], image.shape[0]) for image in images]
        return [replace(truth, size=size) for truth, size in zip(truths, sizes, strict=True)]


def _thinned(truth: GroundTruth, sequence: Sequence, condition: Condition) -> GroundTruth:
    rows, frames = len(truth.boxes), len(sequence)
    if rows != frames:
        raise RunError(f"{truth.name} has {rows} annotated rows for {frames} frames; {condition} needs one per frame")
    kept = condition.kept(sequence)
    return replace(
        truth,
        boxes=truth.boxes[kept],
        aux_boxes=None if truth.aux_boxes is None else truth.aux_boxes[kept],
        labelled=None if truth.labelled is None else truth.labelled[kept],
    )


def open_inputs(
    dataset: Dataset, skip_broken: bool = False, echo: Callable[[str], object] = logger.warning
) -> RunInputs:
    """Open every sequence of a dataset, and check that it can be tracked and that the benchmark can score it.

    Args:
        dataset: What to open.
        skip_broken: Leave missing and broken sequences out instead of refusing the dataset.
        echo: Receives the list of the sequences that are left out.

    Raises:
        RunError: Missing or broken sequences, all of them listed; or none is usable.

    """
    rule = get_rule(dataset.layout.name)
    sequences: dict[str, Sequence] = {}
    truths: dict[str, GroundTruth] = {}

    def keep(name: str, folder: Path, sequence: Sequence) -> None:
        truth = read_sequence_truth(folder, name, rule, len(sequence))
        require_scorable(rule, truth)
        # A link's folder has the name of its target; lists, results and tables use the link's name.
        sequences[name], truths[name] = replace(sequence, name=name), truth

    problems = dataset.problems(keep)
    if not problems:
        return RunInputs(dataset, sequences, truths)
    lines = [f"  {shown(problem.sequence)}: {problem.reason}" for problem in problems]
    if not skip_broken:
        counts = f"{len(problems)} of {len(dataset)} sequences"
        raise RunError(f"{counts} cannot be used; repair them, or leave them out (--skip-broken):", *lines)
    echo("\n".join([f"{len(problems)} sequences are left out:", *lines]))
    if not sequences:
        raise RunError(f"{dataset.root} has no usable sequence; expected at least one")
    return RunInputs(dataset.select(list(sequences)), sequences, truths)
