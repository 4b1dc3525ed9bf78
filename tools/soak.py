"""Prove that the node keeps going: soak, fault matrix, fuzzing and determinism in their long forms.

`make soak MINUTES=10`, or parts of it: `python -m tools.soak --minutes 1 --parts soak`. `make soak HOURS=2.5` is the
soak of hours alone: a stopped one goes on with the same command, until its log holds that many hours. Results are JSON
files below --out, one folder per part; a part's results stay until it runs again, and kills go on where they were
stopped. `python -m tools.reliability_report`
writes docs/reliability.md from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ckd_core import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]

PYTEST = [sys.executable, "-m", "pytest", "-q", "--timeout=1800"]
TWO_RUNS = "test_of_two_runs_started_together_one_writes_and_one_says_who_does"
SUITES = {
    "matrix": ["test/reliability/test_fault_matrix.py", "test/reliability/test_fault_cases.py",
               "test/sdstrack_ros/node/running/test_memory.py", "test/reliability/test_writers.py::" + TWO_RUNS],
    "following": ["test/reliability/test_following_matrix.py"],
    "fuzz": ["test/reliability/test_fuzz_inputs.py", "test/reliability/test_fuzz_files.py",
             "test/reliability/test_fuzz_wire.py"],
    "determinism": ["test/reliability/test_determinism.py"],
    "overload": ["test/reliability/test_overload.py"],
    "security": ["test/reliability/test_security.py"],
    "storms": ["test/sdstrack_ros/node/running/test_service_storm.py"],
    "stops": ["test/sdstrack_ros/node/test_stopping.py"],
    "locks": ["test/reliability/test_writers.py", "-k", "another_does"],
    "kills": ["test/reliability/test_writers.py", "-k", "killed_command"],
}  # fmt: skip
PARTS = ("soak", *SUITES)
HOURS = "hours"


def main() -> int:
    """Run the parts; 0 when all passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the soak itself")
    parser.add_argument("--hours", type=float, help="the soak of hours, alone; what is recorded is continued")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="network of the soak")
    parser.add_argument("--engine", default="auto", help="how the network runs")
    parser.add_argument("--seed", type=int, default=1, help="of the random faults")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "reliability")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes}; expected more than 0")
    if options.hours is not None:
        if options.hours <= 0:
            parser.error(f"--hours {options.hours}; expected more than 0")
        return 0 if run_soak_of_hours(options) else 1
    failed = []
    for part in options.parts:
        begin = time.monotonic()
        print(f"== {part}", flush=True)
        passed = run_soak(options) if part == "soak" else run_suite(part, options.out)
        if not passed:
            failed.append(part)
        print(f"== {part}: {'passed' if passed else 'FAILED'} after {time.monotonic() - begin:.0f} s", flush=True)
    print(f"results in {options.out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_soak(options: argparse.Namespace) -> bool:
    """The soak itself: soak/soak.json and soak/soak.png."""
    from ckd_core.files import write_text
    from testkit.reliability.about import about
    from testkit.reliability.soak import soak, verdict
    from testkit.reliability.soak_figure import draw

    folder: Path = options.out / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        result = soak(
            Path(scratch),
            {"model": options.model, "engine": options.engine},
            options.minutes,
            options.seed,
            lambda line: print(line, flush=True),
        )
    write_text(folder / "soak.json", json.dumps({"about": about(), **result.as_json()}))
    draw(result, folder / "soak.png")
    for criterion in result.criteria:
        print(f"  {criterion.what:<45} {criterion.value:>10.3f}  {criterion.limit:<8} {criterion.word}")
    print(verdict(result.criteria))
    return result.passed


def run_soak_of_hours(options: argparse.Namespace) -> bool:
    """The soak of hours: hours/log.jsonl, which is continued, and hours/hours.json."""
    from ckd_core.files import write_json
    from testkit.reliability.about import about
    from testkit.reliability.hours import LOG, HoursError, run_hours
    from testkit.reliability.soak import verdict

    folder: Path = options.out / HOURS
    # Whatever ends the run ends its processes as well, also where the shell has it ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parameters = {"model": options.model, "engine": options.engine}
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        try:
            result = run_hours(
                folder, Path(scratch), parameters, options.hours, options.seed, lambda line: print(line, flush=True)
            )
        except HoursError as error:
            print(f"error: {error}")
            return False
        except KeyboardInterrupt:
            print(f"stopped; the same command goes on from {folder / LOG}")
            return False
    write_json(folder / "hours.json", {"about": about(), **result.as_json()})
    for window in result.windows:
        memory = ", ".join(f"{name.removesuffix('_mb')} {value:g}" for name, value in window.memory.items())
        print(
            f"  session {window.session}, {window.start_s / 60:5.0f} min: p50 {window.p50_ms} ms, "
            f"p99 {window.p99_ms} ms, control p99 {window.control_p99_ms} ms; MB: {memory}"
        )
    for criterion in result.criteria:
        print(f"  {criterion.what:<60} {criterion.value:>10.3f}  {criterion.limit:<16} {criterion.word}")
    print(f"{result.hours:g} of {options.hours:g} hours: {verdict(result.criteria)}")
    return result.passed


def run_suite(part: str, out: Path) -> bool:
    """A part of test/reliability in its long form."""
    from ckd_core.files import write_text
    from testkit.reliability.about import about

    folder = out / part
    if part != "kills" or (folder / "_about.json").exists():  # unfinished kills are continued
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    # One thread, as in `make test`: commands that are to be killed are forked, which OpenMP's threads do not survive.
    environment = dict(os.environ, SDSTRACK_LONG="1", SDSTRACK_RELIABILITY_OUT=str(out), OMP_NUM_THREADS="1")
    done = subprocess.run([*PYTEST, *SUITES[part]], cwd=ROOT, env=environment, check=False)
    if part != "kills" or done.returncode == 0:
        write_text(folder / "_about.json", json.dumps({"about": about(), "passed": done.returncode == 0}))
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
