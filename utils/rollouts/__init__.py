"""Acting, and what comes of it."""
