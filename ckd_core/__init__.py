"""Multi-modal single-object tracking as a plain Python library: colour plus depth, thermal or event.

Nothing heavy is imported here, so that `import ckd_core` stays fast; import the module that you need.
"""

import os

# PyTorch's OpenMP reads this once, when it is loaded. By its own rule each of its threads keeps a core busy while it
# waits for the others: where those do not get a core at once, a frame of 0.05 s takes 2 s (docs/engines.md "Threads").
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

# The network of every verb, of `build_tracker` and of the node where none is named; its weights are in the package.
DEFAULT_MODEL = "sdstrack_m256"
