"""Coverage-guided fuzzing of every parser that reads what comes from outside: `make fuzz MINUTES=10`.

Needs atheris (requirements/dev.txt). Starts from the committed inputs in test/reliability/corpus. What it finds is
written below --out, as what crashes and as the corpus that it has grown; a find goes into the committed corpus, whose
inputs `make test` runs, and is mended. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from testkit.reliability.fuzz_targets import CORPUS, MAX_LENGTH, TARGETS

ROOT = Path(__file__).parents[1]
# Seconds for one input, and MB for the process.
TIMEOUT_S, MEMORY_MB = 20, 3000
HEAD = ("target", "minutes", "inputs", "edges", "seeds", "grown to", "finds")


def fuzz(name: str, minutes: float, out: Path) -> dict[str, object]:
    """Fuzz one target; returns its row."""
    grown, finds = out / name / "corpus", out / name / "finds"
    for folder in (grown, finds):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={round(60 * minutes)}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_LENGTH.get(name, 2048)}", f"-artifact_prefix={finds}/", "-print_final_stats=1",
        "-report_slow_units=3600",  # what is too slow for `-timeout` is a find; the first inputs pay for the imports
    ]  # fmt: skip
    words = [sys.executable, "-m", "testkit.reliability.fuzz_one", name, *options, str(grown), str(CORPUS / name)]
    with (out / name / "log").open("wb") as log:
        subprocess.run(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    said = (out / name / "log").read_text(errors="replace")
    edges = re.findall(r"cov: (\d+)", said)
    inputs = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said) or re.findall(r"#(\d+)\s", said)
    return {
        "target": name,
        "minutes": minutes,
        "inputs": int(inputs[-1]) if inputs else 0,
        "edges": int(edges[-1]) if edges else 0,
        "seeds": len(list((CORPUS / name).iterdir())),
        "grown to": len(list(grown.iterdir())),
        "finds": len(list(finds.iterdir())),
    }


def main() -> int:
    """Fuzz the targets one after the other; 1 when there is a find, or a target did not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    options = parser.parse_args()
    rows = []
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for name in options.targets:
        row = fuzz(name, options.minutes, options.out)
        rows.append(row)
        print("| " + " | ".join(str(row[key]) for key in HEAD) + " |", flush=True)
    (options.out / "fuzz.json").write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["finds"] or not row["inputs"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
