"""The live view, a key-value cache with change streams: in memory, or in Redis."""
