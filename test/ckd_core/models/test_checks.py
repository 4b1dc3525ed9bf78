"""What a network refuses, and that it says what would be right."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ckd_core.models.checks import NetworkInputError
from ckd_core.models.layers.elimination import EliminationError
from ckd_core.models.registry import build_model

NAMES = ["sdstrack_tiny_test", "ckd_tiny_test"]
TEMPLATE, SEARCH = torch.zeros(1, 6, 64, 64), torch.zeros(1, 6, 128, 128)


def with_value(tensor: torch.Tensor, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[0, 4, 3, 2] = value
    return changed


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    return build_model(request.param).eval()


@pytest.mark.parametrize(
    ("template", "search", "message"),
    [
        (TEMPLATE[:, :3], SEARCH, r"template has shape \[1, 3, 64, 64\]; it must be \[B, 6, 64, 64\], colour channels"),
        (TEMPLATE, SEARCH[:, :5], r"search has shape \[1, 5, 128, 128\]"),
        (TEMPLATE, SEARCH[0], r"search has shape \[6, 128, 128\]"),
        (SEARCH, SEARCH, "template is 128 x 128 px; this network takes 64 x 64 px"),
        (TEMPLATE, SEARCH[..., :96], "search is 96 x 128 px; this network takes 128 x 128 px"),
        (TEMPLATE.byte(), SEARCH, r"template is torch.uint8; the network computes in torch.float32 \(normalised"),
        (TEMPLATE, SEARCH.double(), "search is torch.float64; the network computes in torch.float32"),
        (with_value(TEMPLATE, float("nan")), SEARCH, "template has 1 values that are NaN or infinite"),
        (TEMPLATE, with_value(SEARCH, float("inf")), "search has 1 values that are NaN or infinite"),
        (TEMPLATE.repeat(2, 1, 1, 1), SEARCH, r"template tokens have shape \[2, 2, 16, 48\].*\[1, 2, 16, 48\]"),
    ],
)
def test_bad_images(model: Any, template: torch.Tensor, search: torch.Tensor, message: str) -> None:
    with pytest.raises(NetworkInputError, match=message):
        model(template, search)


def test_template_of_another_configuration(model: Any) -> None:
    other = build_model(model.name, template_size=96).eval()
    tokens = other.embed_template(torch.zeros(1, 6, 96, 96))
    with pytest.raises(NetworkInputError, match=r"\[1, 2, 36, 48\]; this network takes \[1, 2, 16, 48\]"):
        model.track(tokens, SEARCH)


def test_bad_template_mask(model: Any) -> None:
    tokens = model.embed_template(TEMPLATE)
    with pytest.raises(EliminationError, match=r"torch.bool \[B, 16\]"):
        model.track(tokens, SEARCH, torch.ones(1, 16))


def test_training_forward_checks_too() -> None:
    model = build_model("ckd_tiny_test", teachers=True)
    with pytest.raises(NetworkInputError, match="template is 128 x 128 px"):
        model.forward_train(SEARCH, SEARCH)
    with pytest.raises(NetworkInputError, match="search has shape"):
        build_model("sdstrack_tiny_test").forward_train(TEMPLATE, SEARCH[:, :3])
    with pytest.raises(Exception, match=r"without teachers; build_model\('ckd_tiny_test', teachers=True\)"):
        build_model("ckd_tiny_test").forward_train(TEMPLATE, SEARCH)
