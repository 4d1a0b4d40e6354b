"""OGBench's environments: names, rewards, noise, many of them in worker processes."""
