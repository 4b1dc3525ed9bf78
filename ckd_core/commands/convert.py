"""`sdstrack convert`: a published weight file becomes one of this package."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from ckd_core.commands._say import say

if TYPE_CHECKING:
    from rich.console import Console

    from ckd_core.models.published.keys import KeyReport

LISTED_KEYS = 20


def command(
    file: Annotated[
        Path, typer.Argument(help="Published file: SDSTrack, CKD, OSTrack-256 or DropTrack, .pth or .pth.tar.")
    ],
    model: Annotated[
        str,
        typer.Option(help="sdstrack_b256, ckd_b256, ckd_b256_mce, ckd_b256_shared, ostrack_b256 or droptrack_b256."),
    ],
    modality: Annotated[
        str | None,
        typer.Option(help="What a tracker was trained for: depth, thermal, event; colour trackers have none."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Weight file to write; default: beside FILE, .safetensors.")] = None,
    entry: Annotated[
        str | None,
        typer.Option(help="Entry of FILE that holds the weights, where it has several, e.g. state_dict_ema."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Refuse missing and unexpected keys.")] = True,
) -> None:
    """Convert published weights to safetensors. Nothing inside the file is executed."""
    from rich.console import Console

    from ckd_core.frame import Modality
    from ckd_core.locks import folder_lock
    from ckd_core.models.published.convert import convert_published
    from ckd_core.models.published.keys import UnfitKeysError
    from ckd_core.text import shown

    known = [kind.value for kind in Modality]
    if modality is not None and modality not in known:
        raise typer.BadParameter(f"'{modality}'; expected {', '.join(known)}", param_hint="--modality")
    console = Console()
    target = out or file.with_name(file.name.split(".pth")[0] + ".safetensors")
    try:
        with folder_lock(target.parent, "sdstrack convert"):
            done = convert_published(file, model, Modality(modality) if modality else None, target, strict, entry)
    except UnfitKeysError as error:
        _print_report(console, error.report)
        raise
    _print_report(console, done.report)
    if done.replaced:
        console.print(f"classes not rebuilt: {', '.join(map(shown, done.replaced))}", highlight=False, soft_wrap=True)
    for warning in done.warnings:
        say(f"warning: {warning}", err=True)
    console.print(f"wrote {target} (content SHA-256 {done.metadata.sha256})", highlight=False, soft_wrap=True)


def _print_report(console: Console, report: KeyReport) -> None:
    from rich.table import Table

    from ckd_core.text import shown

    table = Table("keys", "count", "which", title="Key report")
    table.add_row("used", str(len(report.used)), "")
    for title, keys in (
        ("missing", report.missing), ("unexpected", report.unexpected), ("left out (training alone)", report.left_out)
    ):  # fmt: skip
        more = f"\n... {len(keys) - LISTED_KEYS} more" if len(keys) > LISTED_KEYS else ""
        table.add_row(title, str(len(keys)), "\n".join(shown(key) for key in keys[:LISTED_KEYS]) + more)
    console.print(table)
