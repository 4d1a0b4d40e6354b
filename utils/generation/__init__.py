"""Makes OGBench's datasets: behaviours, experts, recording."""
