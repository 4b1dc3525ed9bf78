"""Reads safetensors without the package of that name, which has no rosdep key: a header of JSON, then the numbers.

Format: 8 bytes with the length of the header, little-endian; the header, which maps each name to dtype, shape and the
begin and end of its bytes after the header; the bytes of all tensors, without gaps.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "__metadata__"
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def read_entries(header: bytes) -> dict[str, Any]:
    """Return what a header says of each name, each once: of two entries, readers could take either.

    Args:
        header: the JSON of a safetensors file.

    Raises:
        ValueError: it is no JSON, no mapping, or says something twice.
    """
    entries = json.loads(header, object_pairs_hook=_once)
    if not isinstance(entries, dict):
        raise ValueError("the header is not a mapping")  # one kind of error for a broken file
    return entries


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"the header has more than one {name!r}")
        entries[name] = value
    return entries


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name; each has memory of its own.

    Args:
        data: the whole file.

    Raises:
        ValueError: it is not such a file, or its parts contradict each other; the message says which.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    entries = read_entries(data[8 : 8 + length])
    entries.pop(METADATA, None)
    body = memoryview(data)[8 + length :]
    tensors: dict[str, Tensor] = {}
    reached = 0
    for begin, end, name in sorted((*_offsets(name, entry), name) for name, entry in entries.items()):
        if begin != reached or end > len(body):
            raise ValueError(f"{name} lies at {begin} to {end}, not from {reached} on within {len(body)} bytes")
        tensors[name] = _tensor(name, entries[name], body[begin:end])
        reached = end
    if reached != len(body):
        raise ValueError(f"{len(body) - reached} bytes belong to no tensor")
    return tensors


def _offsets(name: str, entry: object) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(number) is int for number in offsets)):
        raise ValueError(f"{name} has no begin and end")
    begin, end = offsets
    if not 0 <= begin <= end:
        raise ValueError(f"{name} lies at {begin} to {end}")
    return begin, end


def _tensor(name: str, entry: dict[str, object], data: memoryview) -> Tensor:
    dtype, shape = _DTYPES.get(str(entry.get("dtype"))), entry.get("shape")
    if dtype is None:
        raise ValueError(f"{name} is of dtype {entry.get('dtype')!r}; expected one of {', '.join(_DTYPES)}")
    if not (isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)):
        raise ValueError(f"{name} has the shape {shape!r}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{name} of shape {shape} has {len(data)} bytes")
    # torch has no tensor over an empty buffer.
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)
