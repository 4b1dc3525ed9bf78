"""Put a table into a document: `python -m tools.paste_table DOCUMENT NAME TABLE`.

Replaces the text of the Markdown document between the lines `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ckd_core.files import write_text


def paste(document: Path, name: str, table: str) -> None:
    """Replace the marked part of a document.

    Raises:
        SystemExit: the document has no such part, or more than one.
    """
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    text = document.read_text()
    count = len(pattern.findall(text))
    if count != 1:
        raise SystemExit(f"{document} has {count} parts between {begin.strip()} and {end}; expected one")
    part = begin + table.strip() + "\n" + end
    write_text(document, pattern.sub(lambda _: part, text))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    paste(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text())
