"""The networks: tensors in, tensors out, no state between frames."""
