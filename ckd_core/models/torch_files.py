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
from ckd_core.text import MAX_REASON, shown

if TYPE_CHECKING:
    from pathlib import Path

# Where training files keep their weights, and what wrappers of a model put before every key.
ENTRIES = ("net", "state_dict", "model", "model_state_dict", "ema", "state_dict_ema")
WRAPPERS = ("module.", "model.")
COMPILED = "_orig_mod."  # torch.compile of the model or of a part of it; no parameter is called so
MIN_TORCH = "2.6"  # with stand-ins under a name of the caller's choice
MAX_ROUNDS = 200  # a legacy file names one unknown class per attempt
UNKNOWN_NAME = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
TRUNCATED = re.compile(r"truncated|[Rr]an out of input|unexpected EOF|unexpected end|reached EOF")
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
        if _is_archive(path):
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
        _refuse_incomplete(path, error)
        reason, *_ = str(_original(error)).splitlines() or [""]
        # torch repeats names of the file's, of any length
        remark = shown(f"{type(error).__name__}: {reason}", MAX_REASON)
        raise ForeignFileError(f"{path} cannot be read as a torch file: {remark}") from error


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # Python 3.11 says so of a damaged directory
        return True


def _refuse_incomplete(path: Path, error: Exception) -> None:
    """Say what a file is that only began as a torch file, or is what a download gave in its place."""
    with path.open("rb") as stream:
        head = stream.read(64)
    size = path.stat().st_size
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        raise ForeignFileError(f"{path} is a web page, not a torch file; download the file behind it") from error
    if head.startswith(b"version https://git-lfs"):
        raise ForeignFileError(f"{path} is a pointer of Git LFS; fetch the file: git lfs pull") from error
    if _is_archive(path):  # its directory is at the end, so nothing is missing
        return
    if (
        not size
        or head.startswith(b"PK\x03\x04")
        or isinstance(error, EOFError)
        or TRUNCATED.search(str(_original(error)))
    ):
        raise ForeignFileError(f"{path} is truncated ({size} bytes, its end is missing); download it again") from error


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


def state_dict_of(content: Any, entry: str | None = None) -> dict[str, Any]:
    """The weights inside a training file: the one of `ENTRIES` that holds tensors, or the content itself.

    Prefixes of wrappers that all keys share are dropped in any order (data-parallel training, Lightning, averaging),
    and torch.compile's wherever it stands.

    Args:
        content: what `read_foreign` returned.
        entry: name of the entry to take; None where one stands out.

    Raises:
        ForeignFileError: no tensors there, several entries and none is named, or one is not a plain tensor within its
            own memory.
    """
    entries = {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    filled = [key for key, value in entries.items() if _holds_tensors(value)]
    if entry is not None:
        if entry not in filled:
            raise ForeignFileError(f"no weights under '{entry}'; expected one of: {', '.join(filled) or 'none'}")
        return _unwrapped(entries[entry])
    known = [key for key in ENTRIES if key in filled]
    if len(known) > 1:
        raise ForeignFileError(
            f"weights under {' and '.join(known)}; choose one: sdstrack convert FILE --entry {known[0]}"
        )
    if known:
        return _unwrapped(entries[known[0]])
    if _holds_tensors(content):
        return _unwrapped(content)
    others = (
        f"; its entry {', '.join(filled)} can be named: sdstrack convert FILE --entry {filled[0]}" if filled else ""
    )
    raise ForeignFileError(f"holds no weights; a training file has them under one of: {', '.join(ENTRIES)}{others}")


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(item, torch.Tensor) for item in value.values())


def _unwrapped(weights: dict[Any, Any]) -> dict[str, Any]:
    """Plain tensors under the names that the network itself gives them."""
    tensors = {str(key): _plain(key, value) for key, value in weights.items() if isinstance(value, torch.Tensor)}
    names = {key: key.replace(COMPILED, "") for key in tensors}
    counter = {"n_averaged"}  # beside the wrapped keys of an averaged model
    while shared := next(
        (wrapper for wrapper in WRAPPERS if all(n.startswith(wrapper) for n in {*names.values()} - counter)), None
    ):
        if not {*names.values()} - counter:
            break
        names = {key: name.removeprefix(shared) for key, name in names.items() if name not in counter}
    if len({*names.values()}) < len(names):
        raise ForeignFileError("two keys differ only in the prefixes of wrappers; expected one model")
    return {name: tensors[key] for key, name in names.items()}


def _plain(key: object, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, without gradient. A stride of 0 could make it far larger than the file."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ForeignFileError(f"tensor {key} is {tensor.layout} on {tensor.device}; it must be a plain dense tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ForeignFileError(
            f"tensor {key} of shape {list(tensor.shape)} reaches outside its {tensor.untyped_storage().nbytes()} "
            "bytes; it must lie within them"
        )
    return tensor.detach()
