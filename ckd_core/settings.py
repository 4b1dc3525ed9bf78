"""Strict reading of YAML files into frozen dataclasses: what does not fit is an error with file, key and expectation.

A dataclass field may have limits in its metadata (`limits(...)`). Supported field types: bool, int, float, str,
pathlib.Path, `X | None`, `tuple[X, ...]`, `dict[str, Any]`, `Literal[...]`, nested dataclasses, and unions of
dataclasses with a `kind: Literal["..."]` field each.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import MAX_REASON, shown

T = TypeVar("T")


class SettingsError(TrackingError):
    """A configuration that cannot be used; the message has the file, the key and what was expected."""


def limits(low: float | None = None, high: float | None = None) -> dict[str, float]:
    """Return the metadata of a numeric field: the closed range of valid values."""
    return {k: v for k, v in (("low", low), ("high", high)) if v is not None}


def read_settings(path: Path, cls: type[T], changes: typing.Sequence[str] = ()) -> T:
    """Read `path` as `cls`, after applying `changes` of the form `a.b.c=yaml value`.

    Raises:
        SettingsError: The file is missing, not YAML, or has unknown keys, wrong types or values out of range.
    """
    raw = load_yaml(path)
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} holds {_kind(raw)}; expected a mapping of keys to values")
    for change in changes:
        _apply_change(raw, change, path)
    return build(cls, raw, str(path))


class _PlainLoader(yaml.SafeLoader):
    """Values as they are written: merge keys of half a kilobyte can multiply to more than any memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, _REFERENCE, event.start_mark)
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, _REFERENCE, key.start_mark)
        super().flatten_mapping(node)


_REFERENCE = "anchors (&name), aliases (*name) and merge keys (<<) are not read; write the values out"


def load_yaml(path: Path) -> Any:
    """Read a YAML file of plain values.

    Raises:
        SettingsError: The file cannot be read or is not valid YAML.
    """
    try:
        return parse_yaml(regular(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error


def parse_yaml(text: str) -> Any:
    """Parse a YAML text of plain values, without anchors, aliases and merge keys.

    Raises:
        ValueError: The text is not valid YAML, or refers to parts of itself.
    """
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML does not wrap the errors of its constructors: `!!bool x` is a KeyError, `!!timestamp x` AttributeError.
        raise ValueError(_yaml_reason(error)) from error


def _yaml_reason(error: Exception) -> str:
    """What PyYAML complains about, on one line."""
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
    return f"{type(error).__name__}: {shown(getattr(error, 'problem', None) or error, MAX_REASON)}{place}"


def build(cls: type[T], raw: Any, file: str, key: str = "") -> T:
    """Build one `cls` from a parsed mapping; `file` and `key` are only for messages.

    Raises:
        SettingsError: A key is unknown or missing, or a value has a wrong type or is out of range.
    """
    return typing.cast("T", _dataclass(cls, raw, file, key))


def typed_fields(cls: Any, raw: Any, file: str, key: str) -> dict[str, Any]:
    """Read the values of those fields of a dataclass that are in a mapping; raises what `build` does."""
    if not isinstance(raw, dict):
        raise SettingsError(f"{file}: {key or 'the file'} is {_kind(raw)}; expected a mapping with keys {_names(cls)}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for name, value in raw.items():
        if name not in known:
            raise SettingsError(f"{file}: unknown key '{shown(_join(key, str(name)))}'; expected one of {_names(cls)}")
        values[name] = _value(hints[name], value, file, _join(key, name))
        _check_range(known[name], values[name], file, _join(key, name))
    return values


def to_plain(value: Any) -> Any:
    """Turn settings into the plain dicts, lists and scalars of JSON and YAML."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def differences(old: Any, new: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """List the keys in which two plain trees differ: dotted key -> (old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        changes: dict[str, tuple[Any, Any]] = {}
        for name in sorted(old.keys() | new.keys()):
            changes |= differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return changes
    return {} if old == new else {key: (old, new)}


def _apply_change(raw: dict[str, Any], change: str, path: Path) -> None:
    dotted, equals, text = change.partition("=")
    if not equals or not dotted:
        raise SettingsError(f"'{change}' is not a change of {path}; expected key.subkey=value")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise SettingsError(f"the value of '{change}' is not valid YAML: {error}") from error
    *parents, leaf = dotted.split(".")
    node: Any = raw
    for i, name in enumerate(parents):
        within = isinstance(node, list)
        node = node[_index(node, name, change, parents[:i])] if within else node.setdefault(name, {})
        if not isinstance(node, dict | list):
            raise SettingsError(f"'{change}': {name} of {path} is {_kind(node)}; expected a mapping")
    if isinstance(node, list):
        node[_index(node, leaf, change, parents)] = value
    else:
        node[leaf] = value


def _index(node: list[Any], name: str, change: str, parents: list[str]) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise SettingsError(f"'{change}': {'.'.join(parents)} has {len(node)} entries; expected an index below that")
    return int(name)


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value)) or f"{shown(repr(value))} ({type(value).__name__})"


def _dataclass(cls: Any, raw: Any, file: str, key: str) -> Any:
    values = typed_fields(cls, {} if raw is None else raw, file, key)
    for field in dataclasses.fields(cls):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in values:
            expected = _type_name(typing.get_type_hints(cls)[field.name])
            raise SettingsError(f"{file}: key '{_join(key, field.name)}' is missing; expected {expected}")
    try:
        return cls(**values)
    except SettingsError as error:
        raise SettingsError(f"{file}: {key or 'the file'}: {error}") from error


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _names(cls: Any) -> str:
    return ", ".join(f.name for f in dataclasses.fields(cls))


def _type_name(hint: Any) -> str:
    if isinstance(hint, type):
        return {int: "an integer", float: "a number", str: "a text", bool: "true or false", Path: "a path"}.get(
            hint, "a mapping" if dataclasses.is_dataclass(hint) else hint.__name__
        )
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(a) for a in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _type_name(a) for a in args)
    if origin is tuple:
        return f"a list ({_type_name(args[0])} each)"
    return "a mapping"


def _value(hint: Any, raw: Any, file: str, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(args, raw, file, key)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _dataclass(hint, raw, file, key)
    if origin is tuple and isinstance(raw, list):
        return tuple(_value(args[0], item, file, f"{key}.{i}") for i, item in enumerate(raw))
    if origin is dict and isinstance(raw, dict):
        return dict(raw)
    if origin is typing.Literal and any(type(raw) is type(known) and raw == known for known in args):
        return raw
    if hint is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if hint is float and isinstance(raw, str):  # YAML 1.1 reads 1e-4 as a text
        try:
            return float(raw)
        except ValueError:
            pass
    if hint is Path and isinstance(raw, str):
        return _path(raw, file, key)
    if hint in (bool, int, str) and type(raw) is hint:
        return raw
    raise SettingsError(f"{file}: '{key}' is {_kind(raw)}; expected {_type_name(hint)}")


def _path(raw: str, file: str, key: str) -> Path:
    """A path with `~` and with `${NAME}`, a folder that an environment variable names, filled in."""
    named = f"{file}: '{key}' is '{shown(raw)}'"

    def folder(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if not value:
            raise SettingsError(f"{named}, but {match[1]} is not set; expected an environment variable with a folder")
        if not Path(value).expanduser().is_dir():
            raise SettingsError(f"{named}, but {match[1]} is '{shown(value)}'; expected an existing folder")
        return value

    return Path(re.sub(r"\$\{(\w+)\}", folder, raw)).expanduser()


def _union(args: tuple[Any, ...], raw: Any, file: str, key: str) -> Any:
    if raw is None and type(None) in args:
        return None
    choices = [a for a in args if a is not type(None)]
    if len(choices) == 1:
        return _value(choices[0], raw, file, key)
    kinds = {typing.get_args(typing.get_type_hints(c)["kind"])[0]: c for c in choices}
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise SettingsError(f"{file}: '{key}.kind' is {shown(repr(kind))}; expected one of {', '.join(kinds)}")
    return _dataclass(kinds[kind], raw, file, key)


def _check_range(field: dataclasses.Field[Any], value: Any, file: str, key: str) -> None:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    for one in value if isinstance(value, tuple) else (value,):
        if not isinstance(one, int | float) or isinstance(one, bool):
            continue
        if not math.isfinite(one):
            raise SettingsError(f"{file}: '{key}' is {one}; expected a finite number")
        if (low is not None and one < low) or (high is not None and one > high):
            span = f"{low} or more" if high is None else f"{high} or less" if low is None else f"{low} to {high}"
            raise SettingsError(f"{file}: '{key}' is {one}; expected {span}")
