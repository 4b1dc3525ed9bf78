"""Coverage-guided fuzzing of every parser that reads what comes from outside: `make fuzz MINUTES=10`.

Needs atheris (requirements/dev.txt). Starts from the committed inputs in test/reliability/corpus. What it finds is
written below --out, as what crashes and as the corpus that it has grown; a find goes into the committed corpus, whose
inputs `make test` runs, and is mended. Minutes are CPU minutes of the fuzzer, so that a busy machine takes longer and
tries as much. Targets take turns of two minutes, and what each has reached is kept below --out: a run that was stopped
(Ctrl-C, SIGTERM) is continued by the same command, until every target has its minutes. Prints a table; --write puts it
into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from ckd_core.files import write_json
from testkit.reliability.about import about
from testkit.reliability.fuzz_targets import CORPUS, MAX_LENGTH, TARGETS
from tools.paste_table import paste

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "reliability.md"
# An input is a find when it takes so many CPU seconds. libFuzzer knows only the clock: it reports what took as long by
# that, ends the run at the second number, and both are tried again in CPU time.
SLOW_S, HANGS_S = 20, 200
MEMORY_MB = 3000  # of the process
SLICE_S = 120  # CPU seconds of one process of the fuzzer, after which its figures are kept
HEAD = ("target", "CPU minutes", "minutes", "inputs", "edges", "seeds", "grown to", "finds")
SUMS = ("CPU minutes", "minutes")


def fuzz(name: str, cpu_minutes: float, out: Path) -> bool:
    """Fuzz one target for a while, and keep its figures, which are sums over all runs of the same `out`.

    Args:
        name: The target.
        cpu_minutes: What it is to reach in all.
        out: Keeps a row of figures, the grown corpus and the finds of each target.

    Returns:
        Whether there is more to do: not where it has its minutes, cannot run, or has a find, which is to be mended and
        taken away first.

    """
    grown, finds, row_file = out / name / "corpus", out / name / "finds", out / name / "row.json"
    for folder in (grown, finds):
        folder.mkdir(parents=True, exist_ok=True)
    row = _row(name, out)
    left_s = 60 * (cpu_minutes - row["CPU minutes"])
    if left_s < 1 or list(finds.iterdir()):
        return False
    begin = time.monotonic()
    inputs, edges, used_s = _run(name, min(SLICE_S, left_s), out / name)
    for find in [*finds.glob("timeout-*"), *finds.glob("slow-unit-*")]:
        if not _is_slow(name, find):
            find.unlink()
    row.update(inputs=row["inputs"] + inputs, edges=max(row["edges"], edges))
    row["CPU minutes"] += used_s / 60
    row["minutes"] += (time.monotonic() - begin) / 60
    row["finds"] = len(list(finds.iterdir()))
    row["seeds"], row["grown to"] = len(list((CORPUS / name).iterdir())), len(list(grown.iterdir()))
    write_json(row_file, row)
    return inputs > 0


def _row(name: str, out: Path) -> dict[str, Any]:
    """What earlier runs have reached."""
    file = out / name / "row.json"
    row: dict[str, Any] = dict.fromkeys(HEAD, 0) | {"target": name}
    return row | json.loads(file.read_text()) if file.exists() else row


def _run(name: str, cpu_s: float, folder: Path) -> tuple[int, int, float]:
    """One process of the fuzzer, for so many CPU seconds at most; its start and the reading of the corpus are free.

    Returns:
        Inputs that it tried, its edges, and the CPU seconds that it used.

    """
    options = [
        f"-timeout={HANGS_S}", f"-report_slow_units={SLOW_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_LENGTH.get(name, 2048)}", f"-artifact_prefix={folder / 'finds'}/", "-print_final_stats=1",
    ]  # fmt: skip
    words = [sys.executable, "-m", "testkit.reliability.fuzz_one", name, *options]
    words += [str(folder / "corpus"), str(CORPUS / name)]
    start_s = used_s = 0.0
    with (folder / "log").open("wb") as log:
        fuzzer = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            process = psutil.Process(fuzzer.pid)
            while fuzzer.poll() is None:
                if not start_s and b"INITED" in (folder / "log").read_bytes():
                    start_s = sum(process.cpu_times()[:2])
                if start_s and (used_s := sum(process.cpu_times()[:2]) - start_s) >= cpu_s:
                    fuzzer.send_signal(signal.SIGUSR1)  # libFuzzer ends after this input, and says its figures
                time.sleep(1)
        finally:
            fuzzer.kill()
            fuzzer.wait()
    said = (folder / "log").read_text(errors="replace")
    edges = re.findall(r"cov: (\d+)", said)
    inputs = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said) or re.findall(r"#(\d+)\s", said)
    return int(inputs[-1]) if inputs else 0, int(edges[-1]) if edges else 0, used_s


def _is_slow(name: str, find: Path) -> bool:
    """Whether an input that was slow by the clock is so in CPU time."""
    code = f"from testkit.reliability.fuzz_targets import *; try_input({name!r}, open({str(find)!r}, 'rb').read())"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_CPU, ({SLOW_S},) * 2); {code}"
    return subprocess.run([sys.executable, "-c", limited], cwd=ROOT, check=False).returncode != 0


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    shown = [{**row, **{key: f"{row[key]:.1f}" for key in SUMS}} for row in rows]
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[key]) for key in HEAD) + " |" for row in shown)])


def main() -> int:
    """Fuzz the targets in turns; 1 when there is a find, a target did not run, or it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes for each target; 0 runs none")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--write", action="store_true", help="write the table of --out into docs/reliability.md")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    todo = list(options.targets) if options.minutes > 0 else []
    try:
        while todo:
            name = min(todo, key=lambda one: _row(one, options.out)["CPU minutes"])
            if not fuzz(name, options.minutes, options.out):
                todo.remove(name)
                print(table([_row(name, options.out)]).splitlines()[-1], flush=True)
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {options.out}")
    rows = [_row(name, options.out) for name in TARGETS]
    print(table(rows))
    if options.write:
        note = about()
        head = f"{note['date']}, {note['machine']}; atheris {version('atheris')}, {note['versions'].split(',')[0]}."
        paste(DOCS, "fuzz", f"{head}\n\n{table(rows)}")
    return int(bool(todo) or any(row["finds"] or not row["inputs"] for row in rows if row["target"] in options.targets))


if __name__ == "__main__":
    sys.exit(main())
