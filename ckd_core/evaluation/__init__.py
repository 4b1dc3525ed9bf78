"""Metrics, the benchmark runner, the missing-modality protocol and reports."""
