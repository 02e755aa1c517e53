"""Processes: backends, lifespan, child processes, and what runs in each."""
