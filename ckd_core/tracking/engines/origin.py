"""What weights say of themselves before they are loaded: whose they are, and what sensor they were trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core import DEFAULT_MODEL
from ckd_core.models.checkpoint import WeightsFileError, default_weights, read_metadata
from ckd_core.models.registry import model_config
from ckd_core.tracking.engines.export import METADATA_FILE, ExportError, read_export_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckd_core.frame import Modality


@dataclass(frozen=True, slots=True)
class WeightsOrigin:
    """What a weight file or export says about itself.

    Attributes:
        path: The file or folder.
        model: Name of the network.
        modalities: Names of the auxiliary cameras that the weights were trained with; empty where it does not say.
    """

    path: Path
    model: str
    modalities: tuple[str, ...]

    def unfit(self, modalities: Iterable[Modality]) -> str:
        """Say for which of the cameras in `modalities` the weights were not trained, and what would be right; or ''."""
        strange = sorted({modality.value for modality in modalities} - set(self.modalities))
        if not self.modalities or not strange:
            return ""
        return (
            f"{self.path} was trained with {' and '.join(self.modalities)} cameras, and this is {' and '.join(strange)}"
            f"; expected weights for {' and '.join(strange)}"
        )

    def warnings(self, modalities: Iterable[Modality]) -> list[str]:
        """Warn of cameras that the weights were not trained with, where it is a user's affair; none where they fit."""
        reason = self.unfit(modalities)
        return [f"warning: {reason}; --any-modality says that it is on purpose"] if reason else []

    def require(self, modalities: Iterable[Modality]) -> None:
        """Refuse cameras that the weights were not trained with.

        Raises:
            WeightsFileError: There is one.
        """
        reason = self.unfit(modalities)
        if reason:
            raise WeightsFileError(f"{reason}, or any modality on purpose (--any-modality)")


def weights_origin(model: str | None = None, weights: Path | None = None) -> WeightsOrigin:
    """Read what weights say about themselves; no tensor is read.

    Args:
        model: Name of the network, for the package's own weights; beside `weights` it is not compared with them.
        weights: A weight file or a folder written by `sdstrack export`; None = the package's own.

    Raises:
        ConfigError: There is no such model.
        WeightsFileError: The file is missing or not a weight file.
        ExportError: The folder is no export.
    """
    if weights is None:
        name = model or DEFAULT_MODEL
        model_config(name)
        weights = default_weights(name)
    path = Path(weights)
    if (path / METADATA_FILE).is_file():
        export = read_export_metadata(path)
        return WeightsOrigin(path, export.spec.model, export.modalities)
    if path.is_dir():
        raise ExportError(
            f"{path} has no {METADATA_FILE}; expected a weight file or a folder written by sdstrack export"
        )
    metadata = read_metadata(path)
    return WeightsOrigin(path, metadata.model, metadata.modalities)


def model_of(model: str | None, weights: Path | None) -> str:
    """The network that is asked for: by name, else as the weights say, else the default; raises as `weights_origin`."""
    if model is not None:
        return model
    return DEFAULT_MODEL if weights is None else weights_origin(None, weights).model
