"""What `sdstrack tune` found to be the fastest engine on this machine, kept for `auto` in the user's cache.

A choice belongs to one processor, one weight file, one set of package versions and one number of threads. Where any of
them differs it is not used, and `find_tuned` says which.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ckd_core
from ckd_core.files import write_json
from ckd_core.models.checkpoint import read_metadata
from ckd_core.text import is_plain_name, shown
from ckd_core.tracking.engines.base import CPU_FLAGS, EngineError, parse_engine
from ckd_core.tracking.engines.threads import usable_cores

FORMAT = "sdstrack-tuned-1"
PACKAGES = ("torch", "openvino", "onnxruntime", "onnxruntime-gpu", "numpy")
MAX_BYTES = 100_000
CPU_LINES = ("vendor_id", "cpu family", "model", "model name", "stepping", "CPU part", "flags", "Features")


def cache_folder() -> Path:
    """Folder of what this package keeps for the user: SDSTRACK_CACHE, else `sdstrack` in the user's cache."""
    own = os.environ.get("SDSTRACK_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "sdstrack"


def processor(device: str) -> str:
    """Kind of the processor behind a device: the GPU's name, or the CPU's with a checksum of what it can do."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "no GPU"
    try:
        first = CPU_FLAGS.read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first)}
    digest = hashlib.sha256("\n".join(facts.get(name, "") for name in CPU_LINES).encode()).hexdigest()
    return f"{facts.get('model name') or platform.machine()} ({digest[:8]})"


@dataclass(frozen=True, slots=True)
class TuneKey:
    """What a choice depends on.

    Attributes:
        model: Name of the network.
        device: `cpu`, `cuda` or `cuda:N`.
        processor: See `processor`.
        cores: CPU cores that this process may use.
        threads: As asked for; 0 = all usable cores.
        weights_sha256: Checksum of the weights' content.
        versions: Of this package and of those that run networks.
    """

    model: str
    device: str
    processor: str
    cores: int
    threads: int
    weights_sha256: str
    versions: dict[str, str]

    @classmethod
    def here(cls, model: str, weights: Path, device: str, threads: int) -> TuneKey:
        """Describe this machine and a weight file, of which only the header is read.

        Raises:
            WeightsFileError: The file is missing or not a weight file.
        """
        versions = {"sdstrack": ckd_core.__version__}
        for name in PACKAGES:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return cls(model, device, processor(device), usable_cores(), threads, read_metadata(weights).sha256, versions)

    def difference(self, other: TuneKey) -> str:
        """Say in what `other` differs from this one; '' where it does not."""
        for what, mine, theirs in (
            ("processor", self.processor, other.processor),
            ("number of cores", self.cores, other.cores),
            ("weights", self.weights_sha256[:12], other.weights_sha256[:12]),
        ):
            if mine != theirs:
                return f"other {what}: {shown(theirs)}, here {mine}"
        names = sorted({*self.versions, *other.versions})
        for name in names:
            mine, theirs = (key.versions.get(name, "absent") for key in (self, other))
            if mine != theirs:
                return f"another version of {shown(name)}: {shown(theirs)}, here {mine}"
        return "" if self.threads == other.threads else f"{other.threads} threads, here {self.threads}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One engine on this machine.

    Attributes:
        median_ms: Of the network call of a frame.
        spread_ms: Between the quartiles.
        agreement: Median IoU with the boxes of torch/fp32.
    """

    median_ms: float
    spread_ms: float
    agreement: float


@dataclass(frozen=True, slots=True)
class TunedChoice:
    """The fastest engine whose boxes are right.

    Attributes:
        key: What it belongs to.
        engine: `kind/precision`.
        measured: Every engine that ran, by name.
        refused: Why others are no choice, by name.
        made: When, ISO 8601.
        export: Name of the folder in `exports_folder` that the engine runs from; '' where it runs from the weights.
    """

    key: TuneKey
    engine: str
    measured: dict[str, Measured]
    refused: dict[str, str] = field(default_factory=dict)
    made: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="minutes"))
    export: str = ""

    @property
    def path(self) -> Path:
        """Its file in the cache; one per model, device, weights and number of threads."""
        parts = (self.key.model, self.key.device, self.key.weights_sha256, str(self.key.threads))
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return _folder() / f"{self.key.model}-{digest[:12]}.json"

    def save(self) -> Path:
        """Write it into the cache, in the place of an older one; returns the file.

        Raises:
            OSError: The cache cannot be written.
        """
        write_json(self.path, {"format": FORMAT, **asdict(self)})
        return self.path


def exports_folder() -> Path:
    """Where `sdstrack tune` puts the exports that it makes."""
    return cache_folder() / "exports"


def _folder() -> Path:
    return cache_folder() / "tuned"


def read_tuned(path: Path) -> TunedChoice:
    """Read a file that `TunedChoice.save` wrote.

    Raises:
        EngineError: It cannot be read, or is not such a file.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        values: dict[str, Any] = json.loads(text)
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format must be {FORMAT!r}")
        key = TuneKey(**values.pop("key"))
        measured = {
            str(name): Measured(*(float(row[column]) for column in ("median_ms", "spread_ms", "agreement")))
            for name, row in values.pop("measured").items()
        }
        choice = TunedChoice(key=key, measured=measured, **values)
        datetime.fromisoformat(choice.made)
        whole = isinstance(key.versions, dict) and (not choice.export or is_plain_name(choice.export))
        if choice.engine not in measured or choice.engine != "/".join(parse_engine(choice.engine)) or not whole:
            raise ValueError(f"engine {choice.engine!r} is not among those measured")
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}") from error
    except (EngineError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"{path} is not what sdstrack tune writes: {shown(error)}") from error
    return choice


def find_tuned(key: TuneKey) -> tuple[TunedChoice | None, str]:
    """Find the choice that fits `key`.

    Returns:
        The choice, or None; and, where there are choices for this model and device but none fits, why the newest one
        does not.
    """
    try:
        files = sorted(_folder().glob(f"{key.model}-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return None, ""
    ignored = ""
    for path in files:
        try:
            choice = read_tuned(path)
        except EngineError as error:
            ignored = ignored or str(error)
            continue
        if choice.key.device != key.device or choice.key.model != key.model:
            continue
        difference = key.difference(choice.key)
        if not difference:
            return choice, ""
        ignored = ignored or f"{path.name} is for {difference}"
    return None, ignored
