"""Outage that does not count, as operators enter it."""
