"""Drivers as subjects: what is held of one, and erasing it."""
