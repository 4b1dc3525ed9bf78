"""How far to trust a box: TRACKING, UNCERTAIN, LOST, and where to look next.

Pure functions over one frozen state, so that a frame that fails changes nothing.
"""
