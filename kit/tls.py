"""TLS to servers: the context of every driver that takes one, and refusals in words.

Certificates are always verified, chain and name. Only an option of a driver's own URL can change that.
"""

import re
import ssl
from collections.abc import Iterator
from typing import Final

from kit.errors import ConfigError

SETTING: Final = "VOLTSTREAM_TLS_CA_FILE"
_ASKS: Final = re.compile(
    r"^(amqps|rediss|ssl|sasl_ssl|mongodb\+srv)://|^postgres(ql)?:.*[?&]sslmode=verify-(ca|full)|^mongodb:.*[?&](tls|ssl)=true"
)


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """For connections to a server whose certificate one of these CAs (PEM; empty: the system's) has signed: TLS 1.2 or
    later, chain and name verified. Raises OSError for a file that holds none: it was there when the process began."""
    try:
        return checked_context(ca_file)
    except ValueError as error:
        raise OSError(f"{SETTING}={ca_file}: {error}") from None


def checked_context(ca_file: str) -> ssl.SSLContext:
    """The same, for a setting that is checked. Raises ValueError with the reason and the mend."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # SSLError is one
        reason = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else f"cannot be read ({error})"
        raise ValueError(f"{reason}; name the PEM file of the CAs that sign the servers' certificates") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def asks_for_tls(url: str) -> bool:
    """Whether the URL of a server asks for TLS with a certificate that is verified."""
    return _ASKS.search(url) is not None


def existing_ca_file(ca_file: str) -> str:
    """The file itself, or the system's, for a driver that wants a path. Raises ConfigError if there is none."""
    found = ca_file or ssl.get_default_verify_paths().cafile
    if not found:
        raise ConfigError(f"this machine has no file of CAs: name one by {SETTING}")
    return found


def refusal(error: BaseException) -> str:
    """Why a server's certificate or handshake was refused, and the mend; empty if TLS is not the reason."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {cause.verify_message}; {_mend(cause.verify_message)}"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS: {cause.reason or cause}; see whether that port speaks TLS 1.2 or later"
    return ""


def refusal_in(message: str) -> str:
    """The same of a message, which is all that some drivers give."""
    if "certificate" not in message:
        return ""
    return f"its certificate is refused: {message}; {_mend(message)}"


def _mend(message: str) -> str:
    if "ismatch" in message or "does not match" in message:  # of host name or address
        return "write the host in the URL as the certificate names it"
    return f"name the CA that has signed it by {SETTING}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps, and what raised it: pika keeps them in attributes of its own."""
    seen: list[BaseException] = [error]
    for one in seen:
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "exception", None), *getattr(one, "exceptions", ())]
        seen += [found for found in (*inner, *one.args) if isinstance(found, BaseException) and found not in seen]
