"""The verbs of the `sdstrack` command, one per file: thin calls into the library.

A verb module imports nothing heavy at its top (no torch, OpenCV, matplotlib), so that `sdstrack --help` stays fast.
"""
