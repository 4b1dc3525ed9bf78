"""What verbs print: lines that only print, whatever a file, a folder or a message has put into them."""

from __future__ import annotations

import typer

from ckd_core.text import printable


def say(line: object, err: bool = False) -> None:
    """Print a text on stdout or stderr, its line ends kept, everything else that is not printable escaped."""
    typer.echo(printable(str(line)), err=err)
