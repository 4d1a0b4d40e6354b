"""Environments: OGBench's names, any of Gymnasium, rewards, noise, many in worker processes."""
