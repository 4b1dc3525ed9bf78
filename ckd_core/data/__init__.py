"""Readers of public datasets, the pair sampler, augmentation and synthetic scenes."""
