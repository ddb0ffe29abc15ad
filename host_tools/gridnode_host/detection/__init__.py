"""Measuring the anomaly detector: streams with known faults, scores, baselines."""
