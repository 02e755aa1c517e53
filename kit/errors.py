"""Errors of the kit.

KitError
├── ConfigError: a setting is wrong; the message names it and says what to write instead
├── Unavailable: a dependency does not answer; try again later
│   ├── LoginRefused: it refuses the URL's login, database or options; others, or a change there, may be accepted
│   └── Contended: a deadlock or serialization failure rolled back the transaction; try again at once
├── Overloaded: a buffer is full; slow down and try again
│   └── QueueFull: a queue of the bus is, and its consumer may be away for good
├── Unprocessable: no retry makes a message readable; it is dead-lettered at once
├── DatabaseLost: the embedded database died and cannot be started again; the process ends
└── MigrationError: the database's tables and this code do not fit together; an operator has to act
"""


class KitError(Exception):
    """Root of the kit's errors."""


class ConfigError(KitError):
    """A setting is wrong. Raised before any I/O."""


class Unavailable(KitError):
    """A broker, database or cache does not answer. Nothing is lost by trying again."""


class LoginRefused(Unavailable):
    """A server, or its driver, refuses the URL's login, database or options."""


class Contended(Unavailable):
    """A deadlock or serialization failure rolled back the transaction; the same request may succeed now."""


class Overloaded(KitError):
    """A buffer is full. Nothing was taken; `retry_after_s` says when to try again."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooSlow(Overloaded):
    """A query takes longer than a question may, or gets no turn. The message says what to do."""


class QueueFull(Overloaded):
    """A queue that takes a message is full. Other queues may have taken it."""


class Unprocessable(KitError):
    """A message that its consumer cannot read, now or later. Raised by a handler: the bus does not deliver it again."""


class DatabaseLost(KitError):
    """The embedded PostgreSQL died and cannot be started again, or dies again and again. Ends its owner's process."""


class MigrationError(KitError):
    """A migration failed, or the database is ahead of the code. Nothing of the failed one is left in the database."""
