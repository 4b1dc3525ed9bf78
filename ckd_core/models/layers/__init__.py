"""What the networks are built of: transformer blocks, token elimination, the frozen stem, the head."""
