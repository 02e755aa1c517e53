"""Masking of secrets in logs and error texts: passwords in URLs, access tokens, payment keys."""

import re
from typing import Final

MASK: Final = "***"

# `scheme://user:password@`, whose password may have any character but white space: greedy up to the last @.
_URL_PASSWORD: Final = re.compile(r"(?P<head>\b[a-zA-Z][\w+.-]*:/{0,2}[^\s:@/]*):(?P<password>[^\s\"'<>]+)@")
_QUERY_PASSWORD: Final = re.compile(r"(?i)\b((?:ssl)?password|passwd|pwd)=([^&\s\"',;]+)")
_TOKEN: Final = re.compile(r"\b(vs[a-z]_)[\w-]{8,}")
_SIGNED: Final = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")  # a JWT: a header that begins with {"
_PAYMENT_KEY: Final = re.compile(r"\b((?:[sr]k_(?:live|test)|whsec|\w+_secret)_)\w{8,}")  # of Stripe
_BEARER: Final = re.compile(r"(?i)\b(bearer )[\w.~+/=-]{8,}")


def mask_url(text: str) -> str:
    """The text with the password of every URL or connection string in it replaced."""
    return _QUERY_PASSWORD.sub(rf"\1={MASK}", _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text))


def mask_secrets(text: str) -> str:
    """The text without passwords of URLs, access tokens, payment keys and bearer credentials."""
    text = _PAYMENT_KEY.sub(rf"\1{MASK}", text)
    return mask_url(_BEARER.sub(rf"\1{MASK}", _TOKEN.sub(rf"\1{MASK}", _SIGNED.sub(MASK, text))))
