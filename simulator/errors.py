"""Errors of the simulator.

SimulatorError
├── Rejected: the platform refused a whole request (4xx); trying again with the same content changes nothing
├── SourceError: a file of readings cannot be read; the message names the row or column and the remedy
└── ProgressError: the record of an earlier run cannot be used; the message names the remedy

A platform that does not answer in time is kit.errors.Unavailable; a wrong option is kit.errors.ConfigError.
"""


class SimulatorError(Exception):
    """Root of the simulator's errors. The message is one sentence for the person at the terminal."""


class Rejected(SimulatorError):
    """The platform answered 4xx."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SourceError(SimulatorError):
    """The file, or the names of its columns, do not match the options of replay."""


class ProgressError(SimulatorError):
    """The progress file is unreadable or belongs to another run."""
