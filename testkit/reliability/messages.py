"""Messages of any type from their definition: hypothesis strategies, corpora, and mutations of their CDR bytes."""

from __future__ import annotations

import importlib
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

_INTEGERS = {
    f"{sign}int{bits}": (0 if sign else -(1 << (bits - 1)), (1 << bits - (not sign)) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
_ARRAY = re.compile(r"^(?P<item>.+)\[(?P<count>\d+)\]$")
_SEQUENCE = re.compile(r"^sequence<(?P<item>.+?)(?:, (?P<most>\d+))?>$")
_STRING = re.compile(r"^w?string(?:<(?P<most>\d+)>)?$")
MAX_ITEMS = 6
MAX_BYTES = 4096


def message_class(name: str) -> Any:
    """Class of `package/Type` or `package/msg/Type`."""
    package, *_, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


def _numbers(kind: str) -> st.SearchStrategy[Any]:
    if kind == "boolean":
        return st.booleans()
    if kind == "octet":
        return st.binary(min_size=1, max_size=1)
    if kind in ("float", "double"):
        special = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e30, -1e30, 1e-30])
        return special | st.floats() if kind == "double" else st.floats(width=32)
    low, high = _INTEGERS[kind]
    small = st.integers(max(low, -2), min(high, 70))
    return small | st.sampled_from([low, high, high - 1]) | st.integers(low, high)


def _field(kind: str, hints: dict[str, Callable[[], st.SearchStrategy[Any]]]) -> st.SearchStrategy[Any]:
    if kind in _INTEGERS or kind in ("boolean", "octet", "float", "double"):
        return _numbers(kind)
    if match := _STRING.match(kind):
        most = min(int(match["most"] or 24), 24)
        return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=most)
    if match := _ARRAY.match(kind):
        count = int(match["count"])
        if match["item"] == "double":
            # One draw for all: 36 separate numbers of a covariance take hypothesis 20 ms.
            return st.binary(min_size=8 * count, max_size=8 * count).map(lambda data: np.frombuffer(data, np.float64))
        item = _field(match["item"], hints)
        return st.lists(item, min_size=count, max_size=count)
    if match := _SEQUENCE.match(kind):
        if match["item"] in ("uint8", "octet"):
            return st.binary(max_size=MAX_BYTES)
        return st.lists(_field(match["item"], hints), max_size=min(int(match["most"] or MAX_ITEMS), MAX_ITEMS))
    return messages(message_class(kind), hints)


def messages(cls: Any, hints: dict[str, Callable[[], st.SearchStrategy[Any]]] | None = None) -> st.SearchStrategy[Any]:
    """Any message of a class, from its own field list.

    Args:
        cls: message class.
        hints: further strategies by field name, whose values pass the first checks so that later ones are reached too.
    """
    hints = hints or {}
    fields = {}
    for name, kind in cls.get_fields_and_field_types().items():
        general = _field(kind, hints)
        fields[name] = general | hints[name]() if name in hints else general
    return st.fixed_dictionaries(fields).map(lambda values: cls(**values))


def corpus(strategy: st.SearchStrategy[Any], count: int, number: int = 0) -> list[Any]:
    """Return `count` examples, the same for the same seed `number`."""
    examples: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        examples.append(example)

    collect()
    if not examples:
        raise AssertionError("hypothesis generated nothing")
    # Small spaces are exhausted early; repeat them.
    return [examples[i % len(examples)] for i in range(count)]


def mutations(data: bytes, source: random.Random, count: int) -> Iterator[bytes]:
    """Yield damaged copies of serialised bytes: flipped, cut, grown, spliced, lengths overwritten, header changed."""
    for _ in range(count):
        yield _mutated(bytearray(data), source)


def _mutated(data: bytearray, source: random.Random) -> bytes:
    for _ in range(source.randint(1, 4)):
        kind = source.randrange(8)
        at = source.randrange(max(1, len(data)))
        if kind == 0 and data:
            data[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = source.randbytes(source.randint(1, 64))
        elif kind == 3:
            end = min(len(data), at + source.randint(1, 32))
            data[at:end] = bytes(end - at)
        elif kind == 4:
            # Lengths and counts are 32-bit words: overwrite one with something absurd or slightly wrong.
            at -= at % 4
            word = source.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x00FFFFFF, 1 << 20, 0, 1, 5, len(data)])
            data[at : at + 4] = word.to_bytes(4, "little")
        elif kind == 5:
            data[:4] = bytes([0, source.randrange(256), source.randrange(256), source.randrange(256)])
        elif kind == 6 and len(data) > 8:
            other = source.randrange(len(data) - 4)
            data[at : at + 16] = data[other : other + 16]
        else:
            end = min(len(data), at + source.randint(1, 16))
            data[at:end] = source.randbytes(end - at)
    return bytes(data)
