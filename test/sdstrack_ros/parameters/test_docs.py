from __future__ import annotations

from pathlib import Path

import pytest

from sdstrack_ros.parameters.docs import descriptor, parameters_markdown
from sdstrack_ros.parameters.spec import ParameterSpec
from sdstrack_ros.parameters.table import parameter_table

DOCS = Path(__file__).parents[3] / "docs" / "parameters.md"


def test_docs_are_generated_from_the_table() -> None:
    assert DOCS.read_text() == parameters_markdown(parameter_table()), (
        "run: python -m sdstrack_ros.parameters.docs > docs/parameters.md"
    )


@pytest.mark.parametrize("spec", parameter_table(), ids=lambda spec: spec.name)
def test_every_default_is_allowed_and_described(spec: ParameterSpec) -> None:
    assert spec.check(spec.default) == spec.default
    assert spec.description.endswith(".")
    message = descriptor(spec)
    assert message.name == spec.name
    assert spec.description in message.description
