"""Write docs/reliability.md from the results of `make soak`: each row with its test, date, machine and versions.

A part without results keeps the tables that the page has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

from ckd_core.files import write_text
from testkit.reliability.about import about
from testkit.reliability.soak import Criterion, verdict
from tools.paste_table import paste

ROOT = Path(__file__).parents[1]

DOCS = ROOT / "docs"
MARK = "<!-- tables -->"  # everything above it is written by hand
MATRIX, CASES, FOLLOWING = "test_fault_matrix.py", "test_fault_cases.py", "test_following_matrix.py"
CASE_TESTS = {
    "network blocked": "test_network_blocked_two_seconds",
    "reactivated while blocked": "test_engine_is_never_entered_twice",
    "device out of memory": "test_device_out_of_memory",
    "event storm": "test_event_storm",
    "NaN from the engine": "test_engine_answers_nan",
    "device vanishes": "test_device_vanishes",
    "QoS mismatch": "test_qos_mismatch",
    "node killed": "test_node_killed_and_restarted_under_load",
    "two nodes with one name": "test_two_nodes_with_one_name",
    "shared memory full": "test_shared_memory_full",
    "disk full for recordings": "test_disk_full_for_recordings",
    "two runs": "test_of_two_runs_started_together_one_writes_and_one_says_who_does",
}
FUZZ_TESTS = {"(files)": "test_fuzz_files.py", "wire": "test_fuzz_wire.py"}


def read(folder: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """(about the run, its rows by name); None where the part has not run."""
    note = folder / "_about.json"
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path != note]
    return (json.loads(note.read_text()) if note.exists() else None), rows


def link(file: str, text: str = "") -> str:
    """Markdown link to a test file."""
    path = os.path.normpath(Path("../test/reliability", file))
    return f"[{text or Path(path).name}]({path})"


def cell(value: object) -> str:
    """One cell: no bars, no line ends, no folders of the machine that it ran on."""
    words = str(value).replace("|", "/").replace("\n", " ").split()
    return " ".join(Path(word).name if word.startswith("/tmp/") else word for word in words)  # noqa: S108  # as read


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    """Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(cell(value) for value in row) + " |" for row in rows), ""]


def stated(note: dict[str, Any] | None, folder: str) -> list[str]:
    """When and on which machine a part ran."""
    if note is None:
        return [f"Not run here yet: `python -m tools.soak --parts {folder}`.", ""]
    ran, verdict = note["about"], "passed" if note["passed"] else "**failed**"
    return [f"{ran['date']}, {ran['machine']}; {ran['versions']}: {verdict}.", ""]


def criteria_of(result: dict[str, Any]) -> list[Criterion]:
    """The lines of a soak's verdict; null is what JSON has for NaN."""
    rows = result["criteria"]
    return [Criterion(**{**row, "value": math.nan if row["value"] is None else row["value"]}) for row in rows]


def verdicts(criteria: list[Criterion]) -> list[str]:
    """Table of a soak's verdict."""
    head = ("criterion", "result", "limit", "")
    rows: list[tuple[object, ...]] = [
        (one.what, "-" if math.isnan(one.value) else f"{one.value:g}", one.limit, one.word) for one in criteria
    ]
    return table(head, rows)


def hours(folder: Path) -> list[str]:
    """The soak of hours: its verdict, and each ten minutes."""
    path = folder / "hours.json"
    lines = ["## Hours", ""]
    if not path.exists():
        return [*lines, "Not run here yet: `make soak HOURS=2.5`.", ""]
    result = json.loads(path.read_text())
    ran, settings, criteria = result["about"], result["settings"], criteria_of(result)
    lines += [
        f"{ran['date']}, {ran['machine']}; {ran['versions']}.",
        f"{settings['model']} by engine `{settings['engine']}`, 640x480 rgb8 + 16UC1 at 30 Hz from another process, "
        f"{result['hours']:g} of {settings['hours']:g} hours in {result['sessions']} sessions, "
        f"{result['faults']} faults: **{verdict(criteria)}**. "
        "The control is a process beside the node that computes for 2 ms thirty times a second; "
        "a minute is calm while its p99 is within a quarter of that of the calmest minutes.",
        "",
    ]
    lines += verdicts(criteria)
    kinds = list(result["windows"][0]["memory"]) if result["windows"] else []
    return [
        *lines,
        *table(
            ("session", "minute", "boxes", "p50 ms", "p99 ms", "control p99 ms", "calm boxes", "calm p99 ms",
             *(kind.removesuffix("_mb") for kind in kinds)),
            [(w["session"], round(w["start_s"] / 60), w["frames"], w["p50_ms"], w["p99_ms"], w["control_p99_ms"],
              w["calm_frames"], "-" if w["calm_p99_ms"] is None else w["calm_p99_ms"],
              *("-" if w["memory"][kind] is None else w["memory"][kind] for kind in kinds)) for w in result["windows"]],
        ),
    ]  # fmt: skip


def matrix(folder: Path, title: str, file: str) -> list[str]:
    """A fault matrix, whose rows are run by a test file unless they are cases of their own."""
    note, rows = read(folder)
    lines = [f"## {title}", "", *stated(note, folder.name)]
    head = ("fault", "injected", "stayed up", "back after", "answers / frames", "injected / counted", "memory", "shown",
            "test")  # fmt: skip
    cells: list[tuple[object, ...]] = []
    for row in rows:
        alone = row["name"] in CASE_TESTS
        test = link(CASES, CASE_TESTS[row["name"]]) if alone else link(file)
        wrong = "; **" + "; ".join(row["faults"]) + "**" if row["faults"] else ""
        back = f"{row['recovered_frames']} frames" if row["recovered_frames"] > 0 else "-"
        boxes = f"{row['answers']} / {row['frames']}" if row["frames"] else "-"
        cells.append(
            (
                row["name"],
                row["injected"],
                "yes" if row["stayed_up"] else "**no**",
                back,
                boxes,
                row["counted"] or "-",
                f"{row['memory_mb']:+.1f} MB" if row["frames"] else "-",
                f"`{row['shown']}`{wrong}" if row["shown"] else wrong or "-",
                test,
            )
        )
    return [*lines, *table(head, cells)] if cells else lines


def fuzzing(folder: Path) -> list[str]:
    """Fuzzing, one line per input."""
    note, rows = read(folder)
    lines = ["## Fuzzing", "", *stated(note, "fuzz")]
    cells: list[tuple[object, ...]] = []
    for row in rows:
        name = row.pop("name")
        file = next((file for mark, file in FUZZ_TESTS.items() if mark in name), "test_fuzz_inputs.py")
        counts = ", ".join(f"{key} {value}" for key, value in row.items())
        cells.append((name.replace("wire ", "over DDS: "), counts, link(file)))
    return [*lines, *table(("input", "outcome", "test"), cells)] if cells else lines


def soak(folder: Path) -> list[str]:
    """The soak with its picture."""
    path = folder / "soak.json"
    lines = ["## Soak", ""]
    if not path.exists():
        return [*lines, "Not run here yet: `make soak MINUTES=10`.", ""]
    result = json.loads(path.read_text())
    ran, criteria = result["about"], criteria_of(result)
    shutil.copyfile(folder / "soak.png", DOCS / "soak.png")
    lines += [
        f"{ran['date']}, {ran['machine']}; {ran['versions']}.",
        f"{result['model']} by {result['engine']}, 640x480 rgb8 + 16UC1 at 30 Hz from another process, "
        f"{result['minutes']:g} minutes, {len(result['faults'])} random faults (seed {result['seed']}), "
        f"{result['answers']} boxes: **{verdict(criteria)}**. "
        f"Short form: {link('test_soak.py')}.",
        "",
        "![soak](soak.png)",
        "",
    ]
    lines += verdicts(criteria)
    lines += table(
        ("image's stamp to box, quiet stretch", "frames", "p50 ms", "p95 ms", "p99 ms"),
        [
            (name, s["frames"], *(f"{s[f'p{p}_ms']:.1f}" for p in (50, 95, 99)))
            for name, s in (("beginning", result["begin"]), ("end", result["end"]))
        ],
    )
    worst: dict[str, list[float]] = {}
    for fault in result["faults"]:
        worst.setdefault(fault["name"], []).append(fault["recovered_s"])
    return [
        *lines,
        *table(
            ("fault", "times", "all boxes and pairs back after at most"),
            [(name, len(v), "**never**" if min(v) < 0 else f"{max(v):g} s") for name, v in sorted(worst.items())],
        ),
    ]


def plain(title: str, folder: Path, file: str) -> list[str]:
    """A part whose rows are named values."""
    note, rows = read(folder)
    lines = [f"## {title}", "", *stated(note, folder.name)]
    cells: list[tuple[object, ...]] = []
    for row in rows:
        name = row.pop("name")
        cells.append((name, "; ".join(f"{key}: {_short(value)}" for key, value in row.items()), link(file)))
    return [*lines, *table(("", "result", "test"), cells)] if cells else lines


def writers(results: Path, page: Path) -> None:
    """The lock matrix and the kills, between their own marks in the text."""
    note, rows = read(results / "locks")
    if rows:
        first = {row["first"]: row for row in rows}
        names = [name for name in next(iter(first.values())) if name not in ("name", "first")]
        body = [(name, *(first[name][second] for second in names)) for name in names if name in first]
        lines = [*_head(note, "locks"), *table(("first", *names), [tuple(row) for row in body])]
        paste(page, "locks", "\n".join(lines))
    note, rows = read(results / "kills")
    if rows:
        columns = [name for name in rows[0] if name != "name"]
        order = sorted(rows, key=lambda row: str(row["command"]))
        lines = [*_head(note, "kills"), *table(tuple(columns), [tuple(row[name] for name in columns) for row in order])]
        paste(page, "kills", "\n".join(lines))


def _head(note: dict[str, Any] | None, part: str) -> list[str]:
    """As `stated`; single rows may have been run alone, by pytest with SDSTRACK_RELIABILITY_OUT."""
    if note is not None:
        return stated(note, part)
    now = about()
    return [f"{now['date']}, {now['machine']}; {now['versions']}.", ""]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "reliability")
    parser.add_argument("--writers", action="store_true", help="only the lock matrix and the kills")
    options = parser.parse_args()

    results: Path = options.results
    page = DOCS / "reliability.md"
    writers(results, page)
    if options.writers:
        return
    prose, _, tables = page.read_text().partition(MARK)
    parts: dict[str, tuple[str, Callable[[Path, str], list[str]]]] = {
        "Soak": ("soak", lambda folder, _: soak(folder)),
        "Hours": ("hours", lambda folder, _: hours(folder)),
        "Fault matrix": ("matrix", lambda folder, title: matrix(folder, title, MATRIX)),
        "Fault matrix: poses and several targets": (
            "following",
            lambda folder, title: matrix(folder, title, FOLLOWING),
        ),
        "Fuzzing": ("fuzz", lambda folder, _: fuzzing(folder)),
        "Determinism": ("determinism", lambda folder, title: plain(title, folder, "test_determinism.py")),
        "Overload": ("overload", lambda folder, title: plain(title, folder, "test_overload.py")),
        "Storms of services": (
            "storms",
            lambda folder, title: plain(title, folder, "../sdstrack_ros/node/running/test_service_storm.py"),
        ),
        "One SIGTERM while configuring": (
            "stops",
            lambda folder, title: plain(title, folder, "../sdstrack_ros/node/test_stopping.py"),
        ),
        "Security": ("security", lambda folder, title: plain(title, folder, "test_security.py")),
    }
    kept = {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in tables.split("\n## ")[1:]}
    lines = [prose.rstrip(), "", MARK, ""]
    for title, (part, section) in parts.items():
        folder = results / part
        lines += [kept[title]] if title in kept and not folder.is_dir() else section(folder, title)
    write_text(page, "\n".join(lines).rstrip() + "\n")
    print("wrote docs/reliability.md")


if __name__ == "__main__":
    main()
