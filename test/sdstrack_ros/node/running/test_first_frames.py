"""The first frames after activation cost what later ones do: nothing is left to import or to compile."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from testkit.ros.processes import ROOT, private_domain, python_module, ros_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ros


def test_nothing_is_imported_and_no_engine_compiled_after_activation(tiny_weights: Path, tmp_path: Path) -> None:
    with private_domain() as domain:
        done = subprocess.run(
            python_module("testkit.ros.first_frames", str(tiny_weights)), env=ros_environment(domain, tmp_path),
            cwd=ROOT, capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
    facts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert facts["answers"] >= 8
    assert facts["compiled_before"] > 0
    assert (facts["imported"], facts["compiled"]) == ([], 0)
