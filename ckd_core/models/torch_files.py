"""Read other people's `.pth` files without running anything in them.

A torch file is a pickle beside raw storages. The unpickler here knows how to rebuild tensors and ordered dicts; every
other class or function that a pickle names becomes an inert placeholder that takes any arguments, keeps nothing and
calls nothing. `torch.load` is never used.
"""

from __future__ import annotations

import collections
import math
import pickle
import struct
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import torch

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a torch file older than 1.6
LEGACY_HEADER_PICKLES = 3  # magic, protocol, system information

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ForeignFileError(TrackingError):
    """A file that is no torch file, is damaged, or holds no tensors."""


@dataclass(frozen=True, slots=True)
class StorageType:
    """What a pickle's `torch.FloatStorage` stands for."""

    dtype: torch.dtype


@dataclass(slots=True)
class Storage:
    """Flat memory of one or more tensors; `data` of a legacy file comes after the pickle that refers to it."""

    dtype: torch.dtype
    numel: int
    data: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as the pickle describes it; becomes one when the storages are there."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def build(self) -> Tensor:
        """The tensor, a view of its storage. Raises ForeignFileError: it reaches outside its storage."""
        data = self.storage.data
        if data is None or min((self.offset, *self.size, *self.stride)) < 0 or len(self.size) != len(self.stride):
            raise ForeignFileError(f"a tensor of shape {list(self.size)} refers to no valid storage")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        numel = math.prod(self.size)
        if numel > data.numel() or (numel and last >= data.numel()):
            raise ForeignFileError(f"a tensor of shape {list(self.size)} reaches outside its {data.numel()} elements")
        return data.as_strided(self.size, self.stride, self.offset) if numel else data.new_empty(self.size)


class _RebuildTensor:
    """Stands for `torch._utils._rebuild_tensor_v2`; slots keep a pickle from changing it."""

    __slots__ = ()

    def __call__(self, storage: object, offset: int, size: Any, stride: Any, *_: object) -> TensorSpec:
        if not isinstance(storage, Storage):
            raise ForeignFileError("a tensor of the file has no storage")
        return TensorSpec(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


class _RebuildParameter:
    """Stands for `torch._utils._rebuild_parameter`: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, data: object, *_: object) -> object:
        return data


class Placeholder:
    """Instance of a class that was not rebuilt: swallows whatever the pickle does to it."""

    def __new__(cls, *_: object, **__: object) -> Placeholder:
        """Take and forget any arguments."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> Placeholder:
        """Do nothing."""
        return self

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None:
        """Forget an element."""

    def extend(self, _: object) -> None:
        """Forget elements."""

    def add(self, _: object) -> None:
        """Forget an element."""


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler whose only live names are ordered dicts, storage types and the two tensor rebuilders.

    storages: filled with every storage that the pickle refers to, by key.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        self.replaced: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for `module.name`; nothing is ever imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _DTYPES:
            return StorageType(_DTYPES[name])
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _RebuildTensor()
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _RebuildParameter()
        self.replaced.add(f"{module}.{name}")
        return type("Placeholder", (Placeholder,), {})

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a torch pickle refers to: ('storage', type, key, location, number of elements, ...)."""
        try:
            kind, storage_type, key, _, numel, *_ = pid
        except (TypeError, ValueError) as error:
            raise ForeignFileError(f"unknown reference {pid!r} in the pickle") from error
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise ForeignFileError(f"unknown kind of storage {kind!r} in the pickle")
        return self.storages.setdefault(str(key), Storage(storage_type.dtype, int(numel)))


def read_foreign(path: Path) -> tuple[Any, set[str]]:
    """Content of a torch file, tensors rebuilt, and the names of all classes that became placeholders.

    Reads the zip layout (torch 1.6 and later) and the legacy one.
    Raises ForeignFileError: the file is missing, damaged or no torch file.
    """
    if not path.is_file():
        raise ForeignFileError(f"{path} is no file")
    try:
        if zipfile.is_zipfile(path):
            content, unpickler = _read_zip(path)
        else:
            content, unpickler = _read_legacy(path)
        return _build(content, {}), unpickler.replaced
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from error
    except Exception as error:  # a hostile pickle can raise anything
        raise ForeignFileError(f"{path} cannot be read as a torch file: {type(error).__name__}: {error}") from error


def _read_zip(path: Path) -> tuple[Any, RestrictedUnpickler]:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ForeignFileError(f"{len(pickles)} entries called data.pkl; a torch file has one")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise ForeignFileError("compressed entries; a torch file stores them as they are")
        root = pickles[0].removesuffix("data.pkl")
        order = root + "byteorder"
        if order in entries and archive.read(order) != b"little":
            raise ForeignFileError(f"byte order {archive.read(order)!r}; only little is read")
        with archive.open(pickles[0]) as stream:
            unpickler = RestrictedUnpickler(stream)
            content = unpickler.load()
        promised = sum(storage.numel * storage.dtype.itemsize for storage in unpickler.storages.values())
        if promised > path.stat().st_size:
            raise ForeignFileError(f"its storages claim {promised} bytes, more than the file has")
        for key, storage in unpickler.storages.items():
            name = f"{root}data/{key}"
            if name not in entries:
                raise ForeignFileError(f"storage {key!r} is missing")
            _fill(storage, archive.read(name))
    return content, unpickler


def _read_legacy(path: Path) -> tuple[Any, RestrictedUnpickler]:
    with path.open("rb") as stream:
        header = [RestrictedUnpickler(stream).load() for _ in range(LEGACY_HEADER_PICKLES)]
        if header[0] != LEGACY_MAGIC:
            raise ForeignFileError("neither a zip archive nor a legacy torch file")
        unpickler = RestrictedUnpickler(stream)
        content = unpickler.load()
        for key in RestrictedUnpickler(stream).load():
            storage = unpickler.storages.get(str(key))
            if storage is None:
                raise ForeignFileError(f"storage {key!r} belongs to no tensor")
            (numel,) = struct.unpack("<q", stream.read(8))
            if numel != storage.numel:
                raise ForeignFileError(f"storage {key!r} has {numel} elements; the pickle says {storage.numel}")
            _fill(storage, stream.read(numel * storage.dtype.itemsize))
    return content, unpickler


def _fill(storage: Storage, data: bytes) -> None:
    expected = storage.numel * storage.dtype.itemsize
    if len(data) < expected:
        raise ForeignFileError(f"a storage has {len(data)} bytes; the pickle says {expected}")
    if storage.numel == 0:
        storage.data = torch.empty(0, dtype=storage.dtype)
        return
    storage.data = torch.frombuffer(bytearray(data[:expected]), dtype=storage.dtype)


def _build(node: Any, seen: dict[int, Any]) -> Any:
    """Content with every tensor description replaced by its tensor; containers are copied once, cycles survive."""
    if isinstance(node, TensorSpec):
        return node.build()
    if id(node) in seen:
        return seen[id(node)]
    if isinstance(node, dict):
        built: dict[Any, Any] = {}
        seen[id(node)] = built
        built.update((key, _build(value, seen)) for key, value in node.items())
        return built
    if isinstance(node, list):
        items: list[Any] = []
        seen[id(node)] = items
        items.extend(_build(value, seen) for value in node)
        return items
    if isinstance(node, tuple):
        return seen.setdefault(id(node), tuple(_build(value, seen) for value in node))
    return node


def state_dict_of(content: Any) -> dict[str, Any]:
    """The weights inside a training file: its `net`, `state_dict` or `model` entry, or the content itself.

    A `module.` prefix that all keys share (a file saved from data-parallel training) is dropped.
    Raises ForeignFileError: no tensors there.
    """
    candidates = [content.get(key) for key in ("net", "state_dict", "model")] if isinstance(content, dict) else []
    for candidate in (*candidates, content):
        if not isinstance(candidate, dict):
            continue
        tensors = {str(key): value for key, value in candidate.items() if isinstance(value, torch.Tensor)}
        if not tensors:
            continue
        if all(key.startswith("module.") for key in tensors):
            return {key.removeprefix("module."): value for key, value in tensors.items()}
        return tensors
    raise ForeignFileError("holds no weights; a training file has them under 'net', 'state_dict' or 'model'")
