"""Errors of running voltstream.

VoltstreamError
├── WrongUsage: an option or argument is wrong; the message says what to write instead
├── PlatformFailed: the platform that a command asks does not answer, or not with what was asked for
├── BackupFailed: a backup cannot be taken, read or restored; the database is as it was, or the message says so
└── ChildFailed: a process that `up` supervises cannot run; the message has its last words
"""


class VoltstreamError(Exception):
    """Root of the command line's errors. The message is one line for the person at the terminal."""


class WrongUsage(VoltstreamError):
    """An option or argument is wrong."""


class PlatformFailed(VoltstreamError):
    """The platform does not answer, or refuses."""


class BackupFailed(VoltstreamError):
    """A backup cannot be taken, is damaged, or cannot be restored here. Unless the message says so, nothing of the
    attempt is left."""


class ChildFailed(VoltstreamError):
    """A supervised process refuses its settings, or does not get ready however often it is started."""
