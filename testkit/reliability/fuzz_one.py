"""Fuzz one target under atheris: `python -m testkit.reliability.fuzz_one TARGET [libFuzzer's options] FOLDER...`."""

from __future__ import annotations

import contextlib
import logging
import sys

import atheris

from testkit.reliability.fuzz_targets import LIBRARIES, TARGETS, try_input


def main() -> None:
    """Run until libFuzzer's options end it."""
    name = sys.argv.pop(1)
    logging.disable(logging.CRITICAL)
    import torch  # noqa: F401  # before anything is instrumented: it is large, and not under test

    with atheris.instrument_imports(include=["ckd_core", "sdstrack_ros", *LIBRARIES.get(name, [])]):
        for seed in (b"", b"\0" * 40, b"\1" * 40):  # the targets import what they need when they are called
            with contextlib.suppress(Exception):
                TARGETS[name](seed)

    def one(data: bytes) -> None:
        try_input(name, data)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
