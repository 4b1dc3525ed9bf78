"""Configuration, loop, resume and distributed launch of a training run."""
