"""Errors of the private servers.

ServerError
├── ServerUnavailable: the server is not available on this machine; the message is the reason, in one line
└── ServerFailed: it is installed, but did not start or stop; the message ends with the tail of its log
"""


class ServerError(Exception):
    """A private server failed or is not available."""


class ServerUnavailable(ServerError):
    """Not installed, and cannot be installed."""


class ServerFailed(ServerError):
    """Installed, but did not start or stop."""
