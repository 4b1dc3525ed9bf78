"""Read `.pth` files of other projects without running anything in them.

`torch.load(weights_only=True)` builds tensors and plain containers and calls nothing that is not on torch's own list of
safe functions. Published files also hold classes of their training code; an inert stand-in under the name of each lets
the rest of the file be read.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from pathlib import Path

MIN_TORCH = "2.6"  # with stand-ins under a name of the caller's choice
MAX_ROUNDS = 200  # a legacy file names one unknown class per attempt
UNKNOWN_NAME = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
UNFIT_CONTAINER = re.compile(r"Can only (SETITEM|append|extend)[^<]*<class '(.+)'>")


class ForeignFileError(TrackingError):
    """A file that is not a torch file, is damaged, or holds no tensors."""


class Placeholder:
    """Instance of a class that was not rebuilt: accepts any arguments and any state, keeps and calls nothing."""

    def __new__(cls, *_: object) -> Any:
        """Make an instance whatever the arguments are."""
        return object.__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class DictPlaceholder(Placeholder):
    """Stands for a class that a file fills like a dict: torch fills only dicts, so an instance is one."""

    def __new__(cls, *_: object) -> Any:
        """Make an ordered dict, whatever the arguments are."""
        return OrderedDict()


class ListPlaceholder(Placeholder):
    """Stands for a class that a file fills like a list: torch fills only lists, so an instance is one."""

    def __new__(cls, *_: object) -> Any:
        """Make a list, whatever the arguments are."""
        return []


def read_foreign(path: Path) -> tuple[Any, set[str]]:
    """Content of a torch file, and the names of all classes that placeholders stand for.

    Reads the zip layout (torch 1.6 and later) and the legacy one. Not for several threads at a time: torch keeps its
    list of safe names for the whole process.

    Raises:
        ForeignFileError: the file is missing, damaged, not a torch file, or names what torch never reads (`os`, `sys`);
            or this torch is too old.
    """
    if torch.__version__ < MIN_TORCH:
        raise ForeignFileError(f"reading {path} safely needs torch {MIN_TORCH} or later; this is {torch.__version__}")
    if not path.is_file():
        raise ForeignFileError(f"{path} is not a file")
    try:
        stand_ins: dict[str, type[Placeholder]] = {}
        if zipfile.is_zipfile(path):
            _require_plain_archive(path)
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            stand_ins.update((name, _stand_in(name, Placeholder)) for name in names)
        for _ in range(MAX_ROUNDS):
            try:
                return _load(path, stand_ins), set(stand_ins)
            except Exception as error:  # a hostile pickle can raise anything
                if not _learn(str(_original(error)), stand_ins):
                    raise
        raise ForeignFileError(f"it names more than {MAX_ROUNDS} unknown classes")
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from error
    except Exception as error:
        reason, *_ = str(_original(error)).splitlines() or [""]
        raise ForeignFileError(f"{path} cannot be read as a torch file: {type(error).__name__}: {reason}") from error


def _require_plain_archive(path: Path) -> None:
    """Refuse archives that torch did not write; a compressed entry could grow to any size."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ForeignFileError(f"{len(pickles)} entries called data.pkl; a torch file has one")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ForeignFileError("compressed entries; a torch file stores them as they are")


def _load(path: Path, stand_ins: dict[str, type[Placeholder]]) -> Any:
    allowed: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]
    with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
        warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error
        return torch.load(path, map_location="cpu", weights_only=True)


def _original(error: BaseException) -> BaseException:
    """What torch's unpickler said; torch wraps it in the advice to load the file unsafely."""
    return error.__context__ if isinstance(error.__context__, type(error)) else error


def _learn(message: str, stand_ins: dict[str, type[Placeholder]]) -> bool:
    """Add the stand-in that an error of torch asks for; False where there is nothing new to learn from it."""
    unknown = UNKNOWN_NAME.search(message)
    if unknown is not None:
        name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"  # torch leaves out that module
        if name in stand_ins:
            return False
        stand_ins[name] = _stand_in(name, Placeholder)
        return True
    unfit = UNFIT_CONTAINER.search(message)
    if unfit is None or unfit[2] not in stand_ins or stand_ins[unfit[2]].__base__ is not Placeholder:
        return False
    base = DictPlaceholder if unfit[1] == "SETITEM" else ListPlaceholder
    stand_ins[unfit[2]] = _stand_in(unfit[2], base)
    return True


def _stand_in(name: str, base: type[Placeholder]) -> type[Placeholder]:
    """Class whose representation, in torch's messages, is `name`."""
    module, _, last = name.rpartition(".")
    return type(last, (base,), {"__module__": module})


def state_dict_of(content: Any) -> dict[str, Any]:
    """The weights inside a training file: its `net`, `state_dict` or `model` entry, or the content itself.

    A `module.` prefix that all keys share (a file saved from data-parallel training) is dropped.

    Raises:
        ForeignFileError: no tensors there, or one that is not a plain tensor within its own memory.
    """
    candidates = [content.get(key) for key in ("net", "state_dict", "model")] if isinstance(content, dict) else []
    for candidate in (*candidates, content):
        if not isinstance(candidate, dict):
            continue
        tensors = {str(key): _plain(key, value) for key, value in candidate.items() if isinstance(value, torch.Tensor)}
        if not tensors:
            continue
        if all(key.startswith("module.") for key in tensors):
            return {key.removeprefix("module."): value for key, value in tensors.items()}
        return tensors
    raise ForeignFileError("holds no weights; a training file has them under 'net', 'state_dict' or 'model'")


def _plain(key: object, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, without gradient. A stride of 0 could make it far larger than the file."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ForeignFileError(f"tensor {key} is {tensor.layout} on {tensor.device}; it must be a plain dense tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ForeignFileError(
            f"tensor {key} of shape {list(tensor.shape)} reaches outside its {tensor.untyped_storage().nbytes()} bytes"
        )
    return tensor.detach()
