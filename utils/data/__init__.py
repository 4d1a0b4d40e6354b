"""From files to transitions."""
