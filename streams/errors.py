"""Errors of the workers.

StreamsError
├── Fenced: another worker has taken this partition over; release it
├── BorderMoved: readings that a flush stores or judges may be in the lake by now; compute the flush again
├── Gap: a frame is missing between what is committed and what arrived; read again from the store's offset
├── ForeignState: the partition's state was written by another version, which this one cannot read
└── LogReplaced: the log ends before what is committed from it, so it is another log
"""


class StreamsError(Exception):
    """Root of the workers' errors."""


class Fenced(StreamsError):
    """The store has given the partition to another worker since this one acquired it. Nothing was changed."""


class BorderMoved(StreamsError):
    """The lake's border has moved since the partition was acquired. Nothing was changed."""


class Gap(StreamsError):
    """An offset beyond the next one. Carries the one that is wanted."""

    def __init__(self, partition: int, wanted: int, got: int) -> None:
        super().__init__(f"partition {partition}: offset {got} arrived where {wanted} is next")
        self.wanted = wanted
        self.got = got


class ForeignState(StreamsError):
    """The state in the database is of a format that this version does not read, or broken. Nothing was changed."""


class LogReplaced(StreamsError):
    """Offsets start over: reading on would drop new readings as old ones. An operator has to decide."""
