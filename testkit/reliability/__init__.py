"""What the reliability suite is made of: generated messages, a faulty camera, a node under watch, the fault rows."""
