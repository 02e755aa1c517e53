"""Errors of the private servers.

ServerError
├── ServerUnavailable: the server cannot be had on this machine; the message is the reason, in one line
└── ServerFailed: it is there, but did not start or stop; the message ends with the tail of its log
"""


class ServerError(Exception):
    """Root of what can go wrong with a private server."""


class ServerUnavailable(ServerError):
    """Not installed, and not to be installed from here."""


class ServerFailed(ServerError):
    """Installed, but it does not do as told."""
