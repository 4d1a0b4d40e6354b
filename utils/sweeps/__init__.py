"""Suites of runs, on this machine or a SLURM cluster."""
