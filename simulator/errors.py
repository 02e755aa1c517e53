"""Errors of the simulator.

SimulatorError
├── Rejected: the platform refused a whole request (4xx); trying again with the same content changes nothing
├── SourceError: a file of readings cannot be read; the message names the row or column and the mend
└── ProgressError: what is noted of an earlier run cannot be used; the message says the mend

A platform that does not answer in time is kit.errors.Unavailable; a wrong option is kit.errors.ConfigError.
"""


class SimulatorError(Exception):
    """Root of the simulator's errors. The message is one sentence for the person at the terminal."""


class Rejected(SimulatorError):
    """The platform said 4xx."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SourceError(SimulatorError):
    """The file, or how its columns are named, is not what replay was told."""


class ProgressError(SimulatorError):
    """The progress file is unreadable or speaks of another run."""
