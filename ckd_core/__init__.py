"""Multi-modal single-object tracking as a plain Python library: colour plus depth, thermal or event.

Nothing heavy is imported here, so that `import ckd_core` stays fast; import the module that you need.
"""

__version__ = "0.1.0"

# The network of every verb, of `build_tracker` and of the node where none is named; its weights are in the package.
DEFAULT_MODEL = "sdstrack_m256"
