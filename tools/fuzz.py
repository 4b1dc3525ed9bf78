"""Coverage-guided fuzzing of every parser that reads what comes from outside: `make fuzz MINUTES=10`.

Needs atheris (requirements/dev.txt). Starts from the committed inputs in test/reliability/corpus. What it finds is
written below --out, as what crashes and as the corpus that it has grown; a find goes into the committed corpus, whose
inputs `make test` runs, and is mended. A later run with the same --out goes on from what the earlier ones have grown,
and its figures are sums over all of them. Prints a table; --write puts it into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from testkit.reliability.about import about
from testkit.reliability.fuzz_targets import CORPUS, MAX_LENGTH, TARGETS
from tools.paste_table import paste

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "reliability.md"
# Seconds for one input, and MB for the process.
TIMEOUT_S, MEMORY_MB = 20, 3000
HEAD = ("target", "minutes", "CPU minutes", "inputs", "edges", "seeds", "grown to", "finds")
SUMS = ("minutes", "CPU minutes", "inputs")


def fuzz(name: str, minutes: float, out: Path) -> dict[str, Any]:
    """Fuzz one target; returns its row, over this run and earlier ones of the same `out`."""
    grown, finds, row_file = out / name / "corpus", out / name / "finds", out / name / "row.json"
    for folder in (grown, finds):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={round(60 * minutes)}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_LENGTH.get(name, 2048)}", f"-artifact_prefix={finds}/", "-print_final_stats=1",
        "-report_slow_units=3600",  # what is too slow for `-timeout` is a find; the first inputs pay for the imports
    ]  # fmt: skip
    words = [sys.executable, "-m", "testkit.reliability.fuzz_one", name, *options, str(grown), str(CORPUS / name)]
    begin, cpu_s = time.monotonic(), _cpu_s()
    with (out / name / "log").open("wb") as log:
        subprocess.run(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    for find in finds.glob("timeout-*"):
        if not _hangs(name, find):
            find.unlink()
    said = (out / name / "log").read_text(errors="replace")
    edges = re.findall(r"cov: (\d+)", said)
    inputs = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said) or re.findall(r"#(\d+)\s", said)
    row: dict[str, Any] = {
        "target": name,
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "CPU minutes": round((_cpu_s() - cpu_s) / 60, 1),
        "inputs": int(inputs[-1]) if inputs else 0,
        "edges": int(edges[-1]) if edges else 0,
        "seeds": len(list((CORPUS / name).iterdir())),
        "grown to": len(list(grown.iterdir())),
        "finds": len(list(finds.iterdir())),
    }
    if row_file.exists() and row["inputs"]:
        earlier = json.loads(row_file.read_text())
        row.update({key: round(row[key] + earlier[key], 1) for key in SUMS}, edges=max(row["edges"], earlier["edges"]))
    if row["inputs"]:
        row_file.write_text(json.dumps(row) + "\n")
    return row


def _hangs(name: str, find: Path) -> bool:
    """Whether an input is as slow as it was: on a busy machine libFuzzer's clock runs on while the process waits."""
    code = f"from testkit.reliability.fuzz_targets import *; try_input({name!r}, open({str(find)!r}, 'rb').read())"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_CPU, ({TIMEOUT_S},) * 2); {code}"
    return subprocess.run([sys.executable, "-c", limited], cwd=ROOT, check=False).returncode != 0


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of every target that has run."""
    files = [out / name / "row.json" for name in TARGETS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[key]) for key in HEAD) + " |" for row in rows)])


def main() -> int:
    """Fuzz the targets one after the other; 1 when there is a find, or a target did not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target; 0 runs none")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--write", action="store_true", help="write the table of --out into docs/reliability.md")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(table(rows), flush=True)
    for name in options.targets if options.minutes > 0 else ():
        rows.append(fuzz(name, options.minutes, options.out))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.write:
        note = about()
        head = f"{note['date']}, {note['machine']}; atheris {version('atheris')}, {note['versions'].split(',')[0]}."
        paste(DOCS, "fuzz", f"{head}\n\n{table(rows_of(options.out))}")
    return int(any(row["finds"] or not row["inputs"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
