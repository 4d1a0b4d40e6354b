"""What measures speed, memory and value models; never a test."""
