from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.paste_table import paste

if TYPE_CHECKING:
    from pathlib import Path


def test_a_table_takes_its_marked_place(tmp_path: Path) -> None:
    document, table = tmp_path / "doc.md", "| x \\1 |\n"
    document.write_text("before\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\nafter\n")
    for _ in range(2):
        paste(document, "a", table)
        expected = "before\n<!-- a -->\n| x \\1 |\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\nafter\n"
        assert document.read_text() == expected
    with pytest.raises(SystemExit, match="has 0 parts"):
        paste(document, "c", table)
