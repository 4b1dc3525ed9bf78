"""Parts of the reliability suite: generated messages, a faulty camera, a node under observation, the fault rows."""
