"""Errors of rating.

RatingError
├── NoReadings: a session without a reading inside it has no usage
└── BadDocument: a tariff or usage cannot be rated as written; the message names the place
"""


class RatingError(Exception):
    """Root of rating's errors. The message is one line for whoever asked."""


class NoReadings(RatingError):
    """Nothing was read inside the session."""


class BadDocument(RatingError):
    """A tariff or usage cannot be rated as written."""
