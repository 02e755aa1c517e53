"""Errors that refuse a request as a whole. Single bad items are values (admission.RefusedItem), not errors.

IngestError
├── MalformedBody: the body is not of its content type; 400, `position` is the byte at which decoding failed, if known
├── TooLarge: more bytes or readings than one request may have; 413
└── UnsupportedMedia: a content type or encoding that is not supported; 415

Only gateway.py maps them to an HTTP status. kit.errors.Overloaded and Unavailable pass through as 503.
"""


class IngestError(Exception):
    """A request that is refused as a whole. The message is one sentence that says what to do."""


class MalformedBody(IngestError):
    """The body cannot be decoded."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class TooLarge(IngestError):
    """A request exceeds a limit."""


class UnsupportedMedia(IngestError):
    """Content-Type or Content-Encoding is not supported."""
