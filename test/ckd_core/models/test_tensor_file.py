from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from ckd_core.models.checkpoint import default_weights
from ckd_core.models.tensor_file import read_tensors


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in theirs
    )


@pytest.mark.parametrize("name", ["sdstrack_s128", "ckd_s128"])
def test_shipped_weights_read_as_by_the_package(name: str) -> None:
    data = default_weights(name).read_bytes()
    assert equal(read_tensors(data), load(data))


def test_every_dtype_and_shape_reads_as_by_the_package() -> None:
    tensors = {
        str(dtype): torch.arange(6).reshape(shape).to(dtype)
        for dtype, shape in zip(
            (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
             torch.float32, torch.float64),
            ([6], [1, 6], [2, 3], [6, 1], [1, 1, 6], [3, 2], [6], [2, 3], [3, 2], [6]),
            strict=True,
        )
    }  # fmt: skip
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "last": torch.ones(1)}
    data = save(tensors, {"about": "text"})
    assert equal(read_tensors(data), load(data))


def test_tensors_have_memory_of_their_own() -> None:
    data = save({"a": torch.ones(2), "b": torch.zeros(2)})
    read = read_tensors(data)
    read["a"].fill_(7.0)
    assert read["b"].tolist() == [0.0, 0.0]
    assert load(data)["a"].tolist() == [1.0, 1.0]


def file_of(header: Any, body: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a header of 0 bytes in a file of 0"),
        (b"\xff" * 9, "a header of"),
        (file_of([]), "not a mapping"),
        (file_of({"a": 3}), "a has no begin and end"),
        (file_of({"a": GOOD | {"data_offsets": [0]}}), "a has no begin and end"),
        (file_of({"a": GOOD | {"data_offsets": [0, True]}}), "a has no begin and end"),
        (file_of({"a": GOOD | {"data_offsets": [8, 0]}}), "a lies at 8 to 0"),
        (file_of({"a": GOOD | {"data_offsets": [-8, 8]}}), "a lies at -8 to 8"),
        (file_of({"a": GOOD | {"data_offsets": [0, 16]}}), "a lies at 0 to 16, not from 0 on within 8 bytes"),
        (file_of({"a": GOOD, "b": GOOD}), "b lies at 0 to 8, not from 8 on"),
        (file_of({"a": GOOD}, b"\0" * 9), "1 bytes belong to no tensor"),
        (file_of({"a": GOOD | {"dtype": "F8"}}), "a is of dtype 'F8'; expected one of BOOL, U8"),
        (file_of({"a": GOOD | {"shape": [3]}}), r"a of shape \[3\] has 8 bytes"),
        (file_of({"a": GOOD | {"shape": [-1, -2]}}), r"a has the shape \[-1, -2\]"),
        (file_of({"a": GOOD | {"shape": [2.0]}}), r"a has the shape \[2.0\]"),
        (file_of({"a": GOOD | {"shape": None}}), "a has the shape None"),
        (b"\x02\0\0\0\0\0\0\0{]", "Expecting property name"),
        (file_of(b'{"__metadata__": {}, "__metadata__": {"a": "b"}}', b""), "more than one '__metadata__'"),
        (file_of(b'{"__metadata__": {"a": "b", "a": "c"}}', b""), "more than one 'a'"),
        (file_of(b'{"a": 1, "a": ' + json.dumps(GOOD).encode() + b"}"), "more than one 'a'"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_tensors(data)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_escape_the_one_error(noise: bytes, at: int) -> None:
    data = bytearray(file_of({"a": GOOD, "b": GOOD | {"data_offsets": [8, 16]}}, b"\0" * 16))
    data[at : at + len(noise)] = noise
    for candidate in (bytes(data), noise):
        with contextlib.suppress(ValueError):
            assert isinstance(read_tensors(candidate), dict)
