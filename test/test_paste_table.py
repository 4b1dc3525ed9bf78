from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import main as benchmarks_main
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
    with pytest.raises(SystemExit, match=r"gone\.md cannot be read"):
        paste(tmp_path / "gone.md", "a", table)


def test_benchmarks_ask_for_the_page_before_they_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.live.load.run", lambda _: pytest.fail("measured in vain"))
    monkeypatch.setattr("sys.argv", ["benchmarks", "load", "--page", str(tmp_path / "gone.md")])
    with pytest.raises(SystemExit, match=r"gone\.md cannot be read"):
        benchmarks_main()
