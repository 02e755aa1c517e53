"""Errors of rating.

RatingError
├── NoReadings: a session without a reading inside it has no usage
└── BadUsage: a written usage cannot be rated; the message names the place and says the mend
"""


class RatingError(Exception):
    """Root of rating's errors. The message is one line for whoever asked."""


class NoReadings(RatingError):
    """Nothing was read inside the session."""


class BadUsage(RatingError):
    """A written usage cannot be rated."""
