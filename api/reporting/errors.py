"""Errors of reporting.

Exception
└── TooMany
"""


class TooMany(Exception):
    """There is more than one answer or report may hold. The message says how to ask for less."""
