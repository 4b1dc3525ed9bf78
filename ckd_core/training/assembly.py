"""Settings to objects: network with its first weights, objective, data sets, trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.distillation.ckd import CKDObjective, CKDSettings
from ckd_core.distillation.objective import Objective, TrackingObjective
from ckd_core.distillation.sdstrack import SDSTrackObjective, SDSTrackSettings

if TYPE_CHECKING:
    from ckd_core.training.config import TrainSettings


def build_objective(settings: TrainSettings) -> Objective:
    """Make the objective that the settings name."""
    chosen = settings.objective
    if isinstance(chosen, SDSTrackSettings):
        return SDSTrackObjective(chosen)
    if isinstance(chosen, CKDSettings):
        return CKDObjective(chosen)
    return TrackingObjective()
