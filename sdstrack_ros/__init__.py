"""What only a robot needs: the lifecycle node, messages, synchronisation, recordings."""
