"""Errors of billing. What HTTP makes of them is decided in billing/edge.py alone.

BillingError
├── NotFound: nothing is known by that id, or nothing of yours
├── BadRequest: the request cannot be answered as put; the message says how to put it
├── Forbidden: the token is valid and may not do that
├── Conflict: the document is not in the state for that; the message says in which it is
├── Declined: the payment provider refused; nothing was paid
├── ProviderFailed: the payment provider cannot do that, now or ever; nothing was paid, an operator must look
├── BadSignature: a payment provider's message is not signed by it
│   └── NoToken: its signature would be a token of ours, and there is none
├── SourceFailed: the stored readings cannot be had
└── BadEvent: an event says what cannot be money
"""


class BillingError(Exception):
    """Root of billing's errors. The message is a sentence for the caller and says the mend."""


class NotFound(BillingError):
    """Nothing is known by that id, or nothing of yours."""


class BadRequest(BillingError):
    """The request cannot be answered as put."""


class Forbidden(BillingError):
    """The token is valid and may not do that."""


class Conflict(BillingError):
    """The document is not in the state for that."""


class Declined(BillingError):
    """The payment provider refused, and would again. Carries its code."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class ProviderFailed(BillingError):
    """The payment provider cannot do what was asked: wrong key, wrong request. That it does not answer is kit's
    Unavailable."""


class BadSignature(BillingError):
    """A message that says to be a payment provider's and is not signed by it."""


class NoToken(BadSignature):
    """A message that needs a token of ours, and has none."""


class SourceFailed(BillingError):
    """The stored readings cannot be had, and trying again will not mend it."""


class BadEvent(BillingError):
    """An event says what cannot be money."""
