"""Reporting: metrics by hour, rolled up from what other services publish."""
