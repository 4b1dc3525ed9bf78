"""Values against the table: one by one, against each other, at a change, and in a ROS parameter file."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING

from ckd_core.settings import SettingsError, load_yaml
from ckd_core.text import shown
from sdstrack_ros.parameters.spec import Effect, ParameterError, Value
from sdstrack_ros.parameters.table import TABLE, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def nearest_name(name: str) -> str:
    """Return ` (did you mean 'x'?)` for a name like that of a parameter, else ''."""
    close = difflib.get_close_matches(name, TABLE, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def settings_from(values: Mapping[str, Value]) -> Settings:
    """Validate values by name; parameters without a value keep their default.

    Raises:
        ParameterError: a name is unknown or a value cannot be used; the message lists all such faults.
    """
    settings = _checked_one_by_one(values)
    if reasons := contradictions(settings):
        raise ParameterError("; ".join(reasons))
    return settings


def _checked_one_by_one(values: Mapping[str, Value]) -> Settings:
    checked: dict[str, Value] = {}
    reasons: list[str] = []
    for name, value in values.items():
        if name not in TABLE:
            reasons.append(f"unknown parameter '{shown(name)}'{nearest_name(name)}")
            continue
        try:
            checked[name] = TABLE[name].check(value)
        except ParameterError as error:
            reasons.append(str(error))
    if reasons:
        raise ParameterError("; ".join(reasons))
    return Settings(**checked)


def contradictions(settings: Settings) -> tuple[str, ...]:
    """Return why values that are allowed one by one cannot be used together; empty when they can."""
    reasons = []
    if settings.min_depth_m >= settings.max_depth_m:
        reasons.append(f"min_depth_m {settings.min_depth_m} must be below max_depth_m {settings.max_depth_m}")
    a, b, c, d, e, f, g, h, i = settings.aux_homography
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(determinant) < 1e-12:
        reasons.append(f"aux_homography {settings.aux_homography} cannot be inverted; its determinant is 0")
    if settings.thermal_range[0] > settings.thermal_range[1]:
        reasons.append(f"thermal_range {settings.thermal_range} falls; expected black, white, or 0, 0")
    if settings.ego_motion == "tf" and not settings.target_frame:
        reasons.append("ego_motion 'tf' needs target_frame: a frame that does not turn with the camera, such as odom")
    width, height = settings.init_box[2:]
    if width < 0 or height < 0:
        reasons.append(f"init_box {settings.init_box} has a negative size; expected x, y, width, height")
    return tuple(reasons)


def change_settings(settings: Settings, values: Mapping[str, Value], configured: bool) -> Settings:
    """Return the settings after a change at run time.

    Values of `settings` that already contradict each other may stay so: a user corrects them one after the other.

    Args:
        settings: before the change.
        values: new values by name.
        configured: whether the node is configured.

    Raises:
        ParameterError: a value cannot be used or contradicts another, or it needs reconfigure while the node is
            configured.
    """
    merged = dataclasses.asdict(settings)
    updated = _checked_one_by_one({**merged, **values})
    known = contradictions(settings)
    if reasons := [reason for reason in contradictions(updated) if reason not in known]:
        raise ParameterError("; ".join(reasons))
    if not configured:
        return updated
    locked = [
        name for name in values if TABLE[name].effect is Effect.RECONFIGURE and getattr(updated, name) != merged[name]
    ]
    if locked:
        names = ", ".join(f"'{name}'" for name in locked)
        raise ParameterError(
            f"{names} needs reconfigure: deactivate and clean up the node, set the value, configure again"
        )
    return updated


def settings_from_yaml(path: Path) -> Settings:
    """Check a ROS parameter file against the table.

    Raises:
        ParameterError: the file is not YAML or not of the form `NODE: ros__parameters: {...}`, or has unknown names or
            values that cannot be used; the message names the file.
    """
    try:
        document = load_yaml(path)
    except SettingsError as error:
        raise ParameterError(str(error)) from error
    if not isinstance(document, dict) or not document:
        raise ParameterError(f"{path}: expected `/**:` with `ros__parameters:` below it")
    values: dict[str, Value] = {}
    for node, section in document.items():
        if not isinstance(section, dict) or not isinstance(section.get("ros__parameters"), dict):
            raise ParameterError(f"{path}: expected `ros__parameters:` with values below '{shown(node)}'")
        odd = [name for name in section["ros__parameters"] if not isinstance(name, str)]
        if odd:
            raise ParameterError(f"{path}: a parameter is called {shown(odd[0])}; expected a text as its name")
        values.update(section["ros__parameters"])
    values.pop("use_sim_time", None)
    try:
        return settings_from(values)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
