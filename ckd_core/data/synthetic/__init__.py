"""Synthetic scenes with ground truth: clips for tests and the demo, pairs for training. Deterministic by seed."""

from ckd_core.data.synthetic.clips import SyntheticClip, clip
from ckd_core.data.synthetic.pairs import PairSettings, SyntheticPairs
from ckd_core.data.synthetic.textures import SyntheticError
from ckd_core.data.synthetic.world import World

__all__ = ["PairSettings", "SyntheticClip", "SyntheticError", "SyntheticPairs", "World", "clip"]
