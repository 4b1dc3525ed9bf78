"""Headless Chromium, for tests that open report pages."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip


def browse(page: Path, profile: Path, *options: str) -> str:
    """Open a page in headless Chromium and return its output.

    Args:
        page: HTML file.
        profile: folder for the browser's own files.
        options: `--dump-dom`, `--screenshot=...`.

    Raises:
        AssertionError: the browser failed, or a script of the page did.
    """
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian package chromium)")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *options, page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Uncaught" in line]
    assert not complaints, complaints
    return done.stdout
