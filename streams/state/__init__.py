"""What a partition remembers between flushes, and its encoding."""
