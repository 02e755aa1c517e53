"""Errors of the language.

SchemaError
└── FrameError: bytes that are not a frame, or a frame whose rows cannot be read
"""


class SchemaError(Exception):
    """Root of what can be wrong with data that claims to speak voltstream's language."""


class FrameError(SchemaError):
    """Not a frame, or an unreadable one. The transport may acknowledge it only after keeping its bytes."""
