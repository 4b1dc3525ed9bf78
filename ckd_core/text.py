"""Texts from outside (messages, files, folders, parameters) as they may enter an error, a log, a status or a table."""

from __future__ import annotations

MAX_CHARACTERS = 100
MAX_REASON = 300  # of a library's own words
MAX_CELL = 1000
MAX_LINE, MAX_LINES = 2000, 1000  # of a text for the terminal


def shown(text: object, limit: int = MAX_CHARACTERS) -> str:
    r"""Shorten a text to about `limit` characters and escape everything in it that is not printable.

    Line breaks, terminal escapes, control and bidirectional characters become Python's escapes (`\n`, `\x1b`,
    `\u202e`); printable characters of any script stay. A text that is too long keeps its beginning and its end, and
    says how long it was. A text that needs neither comes back as it is.

    Args:
        text: Anything; what is not a text is shown as `str` has it.
        limit: Characters of the text that are kept; an escape counts as it is written.

    Returns:
        One line of at most `limit` + 40 characters.
    """
    whole = text if isinstance(text, str) else str(text)
    if len(whole) <= limit and whole.isprintable():
        return whole
    # Only as much as can be shown is escaped: a text from outside may have megabytes.
    head, tail = _escaped(whole[: limit + 1]), _escaped(whole[-limit:])
    if len(whole) <= limit and len(head) <= limit:
        return head
    kept_end = limit // 4
    return f"{head[: limit - kept_end]}...{tail[len(tail) - kept_end :]} ({len(whole)} characters)"


def is_unicode(text: str) -> bool:
    """Whether a name from the system is text: Python makes surrogates of other bytes, which no file can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def has_controls(name: str) -> bool:
    """Whether a name holds line breaks, terminal escapes or other control characters (Unicode's category Cc)."""
    return any(char < " " or "\x7f" <= char <= "\x9f" for char in name)


def is_plain_name(name: str) -> bool:
    """Whether a text from outside can be the name of a file or folder in one folder: no path, not hidden, printable."""
    return bool(name) and not name.startswith(".") and not set(name) & {"/", "\\"} and name.isprintable()


def printable(text: str) -> str:
    """A text of several lines for the terminal: its line ends stay, everything else is shown as by `shown`."""
    lines = text.split("\n")
    more = [f"... {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else []
    return "\n".join([*(shown(line, MAX_LINE) for line in lines[:MAX_LINES]), *more])


def csv_cell(text: str) -> str:
    """A text as a cell that a spreadsheet shows and does not run: printable, and no formula."""
    cell = shown(text, MAX_CELL)
    formula = cell[:1] in {"=", "+", "-", "@"} and len(cell) > 1 and not _is_number(cell)
    return f"'{cell}" if formula else cell


def markdown_cell(text: str) -> str:
    """A text as a cell of a Markdown table: printable, its bars escaped."""
    return shown(text, MAX_CELL).replace("|", r"\|")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
