"""Put a table into a document: `python -m tools.paste_table DOCUMENT NAME TABLE`.

Replaces the text of the Markdown document between the lines `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ckd_core.files import write_text

END = "<!-- end -->"


def paste(document: Path, name: str, table: str) -> None:
    """Replace the marked part of a document.

    Raises:
        SystemExit: the document cannot be read, or has no such part, or more than one.
    """
    text, pattern = require_part(document, name)
    part = _begin(name) + table.strip() + "\n" + END
    write_text(document, pattern.sub(lambda _: part, text))


def require_part(document: Path, name: str) -> tuple[str, re.Pattern[str]]:
    """The text of a document and the pattern of its marked part; what takes long may ask before it begins.

    Raises:
        SystemExit: the document cannot be read, or has no such part, or more than one.
    """
    pattern = re.compile(re.escape(_begin(name)) + r".*?" + re.escape(END), re.DOTALL)
    try:
        text = document.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{document} cannot be read: {error}") from error
    count = len(pattern.findall(text))
    if count != 1:
        raise SystemExit(f"{document} has {count} parts between {_begin(name).strip()} and {END}; expected one")
    return text, pattern


def _begin(name: str) -> str:
    return f"<!-- {name} -->\n"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    paste(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text())
