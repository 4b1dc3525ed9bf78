"""One verb of the `sdstrack` command a file: a thin call into the library.

A verb module imports nothing heavy at its top (no torch, OpenCV, matplotlib), so that `sdstrack --help` stays fast.
"""
