"""Errors of signed tokens.

InvalidToken: a token is not accepted
└── UnknownKey: the key that it names is not known
"""


class InvalidToken(Exception):
    """A signed token that is not accepted. The message says why and what to do, and has no part of the token."""


class UnknownKey(InvalidToken):
    """The key that the token names is not known; perhaps it is once the keys are read again."""
