"""Errors of the door: a request refused as a whole. Single bad items are values (admission.Refused), not errors.

IngestError
├── Malformed: the body is not what its content type says; 400, `position` is the byte where reading stopped, if known
├── TooLarge: more bytes or readings than one request may carry; 413
└── UnsupportedMedia: a content type or encoding nobody here reads; 415

The HTTP status is given at the edge (gateway.py) only. kit.errors.Overloaded and Unavailable pass through as 503.
"""


class IngestError(Exception):
    """Root of what the door refuses as a whole. The message is one sentence that says the mend."""


class Malformed(IngestError):
    """The body cannot be read at all."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class TooLarge(IngestError):
    """A bound of one request is passed."""


class UnsupportedMedia(IngestError):
    """Content-Type or Content-Encoding is not one we read."""
