"""Options that several verbs have in common, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[Path, typer.Option(help="Folder of the dataset.")]
Dataset = Annotated[str, typer.Option("--dataset", "-d", help="lasher, rgbt234, gtot, depthtrack, folder, ...")]
Model = Annotated[str, typer.Option(help="Name of the network.")]
Weights = Annotated[Path | None, typer.Option(help="Weights; default: those that come with the package.")]
Split = Annotated[str | None, typer.Option(help="Split of the dataset; default: test.")]
Sequences = Annotated[str | None, typer.Option(help="Only these sequences, separated by commas.")]
Engine = Annotated[str, typer.Option(help="How the network runs, e.g. torch/fp32, openvino/bf16, auto; no fallback.")]
Devices = Annotated[str, typer.Option("--device", help="Devices for the workers in turn, e.g. cuda:0,cuda:1.")]
Workers = Annotated[int, typer.Option(min=1, help="Sequences at a time.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads a worker; 0: cores / workers.")]
Seed = Annotated[int, typer.Option(min=0, help="For what is random in a condition.")]
SkipBroken = Annotated[bool, typer.Option(help="Name missing or broken sequences and go on without.")]
Restart = Annotated[bool, typer.Option(help="Replace another run's results in OUT.")]
