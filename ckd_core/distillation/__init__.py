"""What training adds to the networks: both distillations and the tracking losses."""
