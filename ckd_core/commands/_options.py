"""Options that several verbs share, declared once."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ckd_core import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Verb = Callable[..., None]

Model = Annotated[
    str | None, typer.Option(help=f"Name of the network; default: what WEIGHTS say, else {DEFAULT_MODEL}.")
]
AnyModality = Annotated[
    bool, typer.Option("--any-modality", help="Also run weights on cameras that they were not trained with.")
]
Weights = Annotated[Path | None, typer.Option(help="Weights; default: those that come with the package.")]
Engine = Annotated[str, typer.Option(help="How the network runs, e.g. torch/fp32, openvino/bf16, auto; no fallback.")]
Sequences = Annotated[str | None, typer.Option(help="Only these sequences, separated by commas.")]


def with_options(leave_out: Collection[str] = ()) -> Callable[[Verb], Verb]:
    """Turn the first parameter of a verb, a dataclass of options, into one command-line option per field.

    Args:
        leave_out: Fields that the verb does not offer; they keep their default.

    """

    def expand(command: Verb) -> Verb:
        signature = inspect.signature(command, eval_str=True)
        first, *own = signature.parameters.values()
        options, hints = first.annotation, get_type_hints(first.annotation)
        shared = [item for item in fields(options) if item.name not in leave_out]
        shared.sort(key=lambda item: item.default is not MISSING)  # what is required comes first
        parameters = [
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if item.default is MISSING else item.default,
                annotation=Annotated[
                    hints[item.name],
                    typer.Option(*item.metadata["names"], help=item.metadata["help"], min=item.metadata["minimum"]),
                ],
            )
            for item in shared
        ]
        parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

        @wraps(command)
        def expanded(**values: Any) -> None:
            command(options(**{item.name: values.pop(item.name) for item in shared}), **values)

        expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
        expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return expanded

    return expand
