"""What models are worth: metrics with intervals, slices, calibration, importance, gates, baselines."""
