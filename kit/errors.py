"""Errors of the plumbing.

KitError
├── ConfigError: a setting is wrong; the message names it and the mend
├── Unavailable: a dependency does not answer; try again later
├── Overloaded: a bound of ours is reached; slow down and try again
├── Unprocessable: a message that no retry will mend; it goes to the dead letters at once
└── MigrationError: the database's tables and this code do not fit together; an operator must mend it
"""


class KitError(Exception):
    """Root of the plumbing's errors."""


class ConfigError(KitError):
    """A setting is wrong. Raised before any I/O."""


class Unavailable(KitError):
    """A broker, database or cache does not answer. Nothing is lost by trying again."""


class Overloaded(KitError):
    """A buffer's bound is reached."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unprocessable(KitError):
    """A message says what its consumer cannot read, now or later. Raised by a handler: the bus does not try again."""


class MigrationError(KitError):
    """A migration failed, or the database is ahead of the code. Nothing of the failed one is left in the database."""
