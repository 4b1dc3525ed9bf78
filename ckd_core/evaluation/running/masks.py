"""Published missing-modality masks: which camera is there in which frame of which sequence."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.data.box_files import BoxFileError, parse_table
from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import MAX_REASON, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

MAX_BYTES = 1 << 28
FORMS = "a .json of [rgb, aux] pairs per frame by sequence, or a folder of SEQUENCE.txt with rgb,aux in each row"


class MaskError(TrackingError):
    """Masks that cannot be read, or do not fit a sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class MissingMasks:
    """Presence of both cameras by frame.

    Attributes:
        name: Of the file or folder, with the begin of a checksum over the flags: it names the condition.
        flags: [N, 2] bool by sequence: colour, auxiliary. Both may be gone.
    """

    name: str
    flags: dict[str, Flags]

    def of(self, sequence: str, frames: int) -> Flags:
        """Flags [frames, 2] of a sequence.

        Raises:
            MaskError: There are none, or for another number of frames.
        """
        if sequence not in self.flags:
            known = ", ".join(sorted(self.flags)[:3])
            raise MaskError(f"the masks {self.name} have no sequence {sequence}; they have {known}, ...")
        flags = self.flags[sequence]
        if len(flags) != frames:
            raise MaskError(
                f"the masks {self.name} have {len(flags)} rows for {sequence}, which has {frames} frames; must be equal"
            )
        return flags.copy()


def read_masks(path: Path) -> MissingMasks:
    """Read masks in one of `FORMS`; a .json may also be in groups, as of Modality-missing-RGBT-Tracking.

    Raises:
        MaskError: Another form, a sequence with two masks, or flags other than 0 and 1.
    """
    try:
        if path.is_dir():
            entries = [(file.stem, _table(file)) for file in sorted(path.glob("*.txt"))]
        elif path.suffix == ".json":
            if path.stat().st_size > MAX_BYTES:
                raise MaskError(f"{path} has {path.stat().st_size} bytes; masks have at most {MAX_BYTES}")
            entries = list(_entries(json.loads(regular(path).read_text(encoding="utf-8-sig")), str(path)))
        else:
            raise MaskError(f"{path} is no file or folder of masks; expected {FORMS}")
    except (OSError, ValueError, RecursionError) as error:
        raise MaskError(f"cannot read masks {path}: {shown(error, MAX_REASON)}") from error
    flags: dict[str, Flags] = {}
    for name, rows in entries:
        if name in flags:
            raise MaskError(f"{path} has two masks for {shown(name)}; expected one")
        flags[name] = _checked(rows, f"{path}: {shown(name)}")
    if not flags:
        raise MaskError(f"{path} has no masks; expected {FORMS}")
    digest = hashlib.sha256()
    for name in sorted(flags):
        digest.update(f"{name} {len(flags[name])}".encode() + np.packbits(flags[name]).tobytes())
    return MissingMasks(f"{path.stem}-{digest.hexdigest()[:8]}", flags)


def _table(file: Path) -> Any:
    try:
        return parse_table(file.read_text(encoding="utf-8-sig"), str(file)).values
    except BoxFileError as error:
        raise MaskError(str(error)) from error


def _entries(node: Any, source: str) -> Iterator[tuple[str, Any]]:
    """(sequence, rows) of every sequence in a JSON document, in groups or not."""
    if not isinstance(node, dict):
        raise MaskError(f"{source} holds {shown(node)} where a mapping was expected; {FORMS}")
    for name, value in node.items():
        if isinstance(value, dict) and isinstance(value.get("sequences"), list):
            for entry in value["sequences"]:
                if not (isinstance(entry, list) and len(entry) > 1 and isinstance(entry[1], dict)):
                    raise MaskError(f"{source}: {shown(name)} lists {shown(entry)}; expected [name, {{modalities}}]")
                yield str(entry[0]), entry[1].get("modalities", [])
        elif isinstance(value, dict) and "modalities" in value:
            yield name, value["modalities"]
        elif isinstance(value, dict):
            yield from _entries(value, source)
        else:
            yield name, value


def _checked(rows: Any, source: str) -> Flags:
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise MaskError(f"{source} is not rows of two flags: {shown(error, MAX_REASON)}") from error
    if values.size == 0:
        raise MaskError(
            f"{source} has no flags: the file says how images go missing, not which; generate the flags first"
        )
    if values.ndim != 2 or values.shape[1] != 2:
        raise MaskError(f"{source} has the shape {values.shape}; expected (frames, 2): colour, auxiliary")
    if not np.isin(values, (0.0, 1.0)).all():
        row = int(np.argmax(~np.isin(values, (0.0, 1.0)).all(axis=1)))
        raise MaskError(f"{source} row {row + 1} is {values[row].tolist()}; expected flags 0 or 1")
    return values > 0
