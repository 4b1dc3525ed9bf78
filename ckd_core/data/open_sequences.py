"""Which open sequences may decide something, and which only judge: one file, `splits/open_sequences.yaml`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core.data.layouts import DatasetError
from ckd_core.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

OPEN_SEQUENCES = Path(__file__).parent / "splits" / "open_sequences.yaml"
VALIDATION, TEST = "validation", "test"
SPLITS = (VALIDATION, TEST)


class SplitError(DatasetError):
    """A file of splits that contradicts itself, or a choice that looks at test sequences."""


@dataclass(frozen=True, slots=True)
class OpenSequence:
    """One entry of the file.

    Attributes:
        name: Of the sequence's folder.
        split: validation or test.
        reason: What it is there for.
        license: Of its images and boxes.
    """

    name: str
    split: str
    reason: str
    license: str


@dataclass(frozen=True, slots=True)
class OpenSequences:
    """The whole file."""

    sequences: tuple[OpenSequence, ...]

    def __post_init__(self) -> None:
        counts = Counter(item.name for item in self.sequences)
        if twice := sorted(name for name, count in counts.items() if count > 1):
            raise SplitError(f"listed more than once: {', '.join(twice)}; expected one split per sequence")
        for item in self.sequences:
            if item.split not in SPLITS:
                raise SplitError(f"{item.name} is in the split {item.split!r}; expected one of {', '.join(SPLITS)}")
            if not item.reason or not item.license:
                raise SplitError(f"{item.name} has no reason or no license; expected both")

    def names(self, split: str) -> tuple[str, ...]:
        """Sequences of a split, in the file's order.

        Raises:
            SplitError: There is no such split.
        """
        if split not in SPLITS:
            raise SplitError(f"unknown split {split!r} of the open sequences; expected one of {', '.join(SPLITS)}")
        return tuple(item.name for item in self.sequences if item.split == split)


@cache
def open_sequences(path: Path = OPEN_SEQUENCES) -> OpenSequences:
    """Read the file.

    Raises:
        SettingsError: It has other keys, or values of a wrong type.
        SplitError: It contradicts itself.
    """
    return read_settings(path, OpenSequences)


def require_no_test(names: Iterable[str], choice: str) -> None:
    """Check that a choice looks at no test sequence. Sequences that the file does not list may be used.

    Args:
        names: Of the sequences' folders.
        choice: What is chosen, for the message.

    Raises:
        SplitError: One of them is for tests.
    """
    judges = sorted(set(names) & set(open_sequences().names(TEST)))
    if judges:
        raise SplitError(
            f"{choice} must not look at {', '.join(judges)}: {OPEN_SEQUENCES.name} keeps "
            f"{'them' if len(judges) > 1 else 'it'} for tests; expected validation sequences "
            f"({', '.join(open_sequences().names(VALIDATION))}) or your own"
        )
