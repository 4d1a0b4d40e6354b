"""The process and its machine: commands, streams, signals, locks, memory."""
