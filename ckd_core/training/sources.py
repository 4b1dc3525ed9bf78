"""Where pairs come from, as configured."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Training and validation sets."""

    train: tuple[dict[str, Any], ...] = ()
