"""What a tracker needs before it is used: exports, calibrated thresholds, the crops both are checked on."""
