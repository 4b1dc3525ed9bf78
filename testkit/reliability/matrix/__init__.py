"""The fault matrix: a healthy node, a fault, and what must be seen."""
