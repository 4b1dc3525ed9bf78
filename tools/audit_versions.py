"""Ask pip's package index about every pinned version: gone, withdrawn, or with published vulnerabilities.

`pip install --dry-run --report` is asked, so whatever index pip is configured for; nothing is installed.
Vulnerabilities come from the JSON interface of the index that pip names by default, where that answers.
Exit status: 0 nothing was found, 1 something was. The tests do not need it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from pip._internal.models.index import PyPI

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 20.0
# An index without the JSON interface answers 404 to everything; it is asked about this and not a second time.
KNOWN = "pip/23.0"


def pip_report(requirements: Path) -> tuple[list[dict[str, Any]], str]:
    """What pip would install for a file, and what it complains of."""
    with tempfile.NamedTemporaryFile(suffix=".json") as stream:
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet",
            "--report", stream.name, "-r", str(requirements),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return [], done.stderr.strip()
        items: list[dict[str, Any]] = json.loads(Path(stream.name).read_text())["install"]
    return items, ""


def vulnerabilities(path: str) -> list[dict[str, Any]] | None:
    """Published ones of NAME/VERSION; None where the index has no such interface."""
    url = f"{PyPI.url.rstrip('/')}/pypi/{path}/json"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # https, the index pip names
            found: list[dict[str, Any]] = json.load(answer).get("vulnerabilities", [])
    except (urllib.error.URLError, TimeoutError, ValueError):
        return None
    return [entry for entry in found if not entry.get("withdrawn")]


def main() -> int:
    """Print what is found."""
    findings: list[str] = []
    asked = 0
    has_json = vulnerabilities(KNOWN) is not None
    for requirements in sorted((ROOT / "requirements").glob("*.txt")):
        items, complaint = pip_report(requirements)
        asked += len(items)
        if complaint:
            findings.append(f"{requirements.name}: {complaint}")
        for item in items:
            name, version = item["metadata"]["name"], item["metadata"]["version"]
            if item.get("is_yanked"):
                findings.append(f"{name} {version}: withdrawn")
            for entry in (vulnerabilities(f"{name}/{version}") or []) if has_json else ():
                fixed = ", ".join(entry.get("fixed_in", ())) or "no release yet"
                findings.append(f"{name} {version}: {entry['id']} {entry.get('summary') or ''} (fixed in {fixed})")
    print("\n".join(re.sub(r"\n+", "\n  ", finding) for finding in findings))
    print(f"{asked} pinned versions asked about, {len(findings)} findings")
    if not has_json:
        print("the index has no JSON interface here: published vulnerabilities were not asked about")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
