"""Errors of billing, each with its HTTP status.

ServiceError (kit/web/errors)
└── BillingError
    ├── Declined 402: the payment provider refused; nothing was paid
    ├── ProviderFailed 502: the payment provider cannot do that, now or ever; nothing was paid, an operator must look
    ├── BadSignature 403: a webhook message is not signed by the payment provider
    │   └── NoToken 401: such a message needs a token of ours instead, and has none
    ├── SourceFailed 502: the stored readings are not available, and trying again will not help
    └── BadEvent 500: an event contains what cannot be money; nothing that a caller could correct
"""

from collections.abc import Mapping
from typing import Any

from kit.web.errors import ServiceError


class BillingError(ServiceError):
    """Root of billing's own errors. The message is a sentence for the caller and says how to correct it."""


class Declined(BillingError):
    """The payment provider refused, and would again. Carries its code."""

    status = 402

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code

    @property
    def extensions(self) -> Mapping[str, Any]:
        """The provider's code."""
        return {"code": self.code} if self.code else {}


class ProviderFailed(BillingError):
    """The payment provider cannot do what was asked: wrong key, wrong request. If it does not answer, that is kit's
    Unavailable."""

    status = 502


class BadSignature(BillingError):
    """A webhook message that is not signed by the payment provider."""

    status = 403


class NoToken(BadSignature):
    """A webhook message that needs a token of ours, and has none."""

    status = 401

    @property
    def headers(self) -> Mapping[str, str]:
        """How to authenticate (RFC 9110)."""
        return {"WWW-Authenticate": 'Bearer realm="voltstream"'}


class SourceFailed(BillingError):
    """The stored readings are not available, and trying again will not help."""

    status = 502


class BadEvent(BillingError):
    """An event contains what cannot be money."""
