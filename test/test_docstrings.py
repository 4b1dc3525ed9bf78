"""Fields and arguments are described where readers and tools look for them: under `Attributes:` and `Args:`."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
DESCRIBED = re.compile(r"(?:^|[.;,] |^\s+)`?(\w+)`?: ", re.MULTILINE)


def described_outside_their_section(tree: ast.AST) -> list[str]:
    """Classes and functions whose docstring says `name: what it is` of a field or argument, without the heading."""
    stray = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names = {field.target.id for field in node.body
                     if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)}  # fmt: skip
            heading = "Attributes:"
        elif isinstance(node, ast.FunctionDef):
            names, heading = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}, "Args:"
        else:
            continue
        text = ast.get_docstring(node) or ""
        if heading not in text and names & set(DESCRIBED.findall(text)):
            stray.append(f"{node.name}, line {node.lineno}: {heading}")
    return stray


def test_fields_and_arguments_have_their_headings() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert len(files) > 300
    trees = {name: ast.parse((ROOT / name).read_text()) for name in files}
    stray = {name: places for name, tree in trees.items() if (places := described_outside_their_section(tree))}
    assert not stray


def test_a_field_without_its_heading_is_seen() -> None:
    source = 'class Box:\n    """A box.\n\n    x: left edge. y: top edge.\n    """\n\n    x: int\n    y: int\n'
    assert described_outside_their_section(ast.parse(source)) == ["Box, line 1: Attributes:"]
    mended = source.replace("    x: left", "    Attributes:\n        x: left")
    assert not described_outside_their_section(ast.parse(mended))
