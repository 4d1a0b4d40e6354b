"""The loop that trains a population of seeds and tasks."""
