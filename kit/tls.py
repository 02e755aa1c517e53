"""TLS to servers: the context of every driver that takes one, and refusals in words.

Certificates are always verified, chain and name. Only an option of a driver's own URL can change that.
"""

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from kit.errors import ConfigError

SETTING: Final = "VOLTSTREAM_TLS_CA_FILE"
_LIBPQ_CA: Final = "PGSSLROOTCERT"  # libpq's variable; `system` is none of its files
_CA_OPTIONS: Final = frozenset({"sslrootcert", "ssl_ca_certs", "tlscafile"})  # of PostgreSQL, Redis, MongoDB
_OTHER_OPTIONS: Final = frozenset({"sslcert", "sslkey", "ssl_certfile", "ssl_keyfile", "tlscertificatekeyfile"})
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


def outside_context(ca_file: str) -> ssl.SSLContext:
    """For servers that may be anybody's: CAs of the file are trusted beside the system's. Raises OSError."""
    context = client_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def asks_for_tls(url: str) -> bool:
    """Whether the URL of a server asks for TLS with a certificate that is verified."""
    return _ASKS.search(url) is not None


def option_of(url: str, name: str) -> str:
    """The value of an option of a server's URL; empty without it."""
    return dict(_options(url)).get(name, "")


def libpq_ca_file(url: str, ca_file: str) -> str:
    """The file of CAs that a URL of PostgreSQL has to name; empty: it asks for none, or libpq finds one by itself.

    The order is: `sslrootcert` of the URL, VOLTSTREAM_TLS_CA_FILE, libpq's own (PGSSLROOTCERT, ~/.postgresql/root.crt),
    the system's. Raises ConfigError if there is none.
    """
    if not asks_for_tls(url) or option_of(url, "sslrootcert"):
        return ""
    if not ca_file and (os.environ.get(_LIBPQ_CA) or Path("~/.postgresql/root.crt").expanduser().exists()):
        return ""
    found = ca_file or ssl.get_default_verify_paths().cafile
    if not found:
        raise ConfigError(f"this machine has no file of CAs: name one by {SETTING}")
    return found


def check_named_files(setting: str, url: str, ca_file: str) -> None:
    """Raises ValueError with the mend where a URL names a file of certificates or keys that holds none. Of one that is
    gone later, the driver says so."""
    for name, path in _options(url):
        if name in _CA_OPTIONS and path != "system":
            _check_cas(f"{name} of {setting}={path}", path)
        elif name in _OTHER_OPTIONS and not os.access(path, os.R_OK):
            raise ValueError(f"{name} of {setting}={path}: cannot be read; name the PEM file")
    by_libpq = os.environ.get(_LIBPQ_CA, "")
    unnamed = not ca_file and not option_of(url, "sslrootcert")
    if url.startswith("postgres") and asks_for_tls(url) and unnamed and by_libpq not in ("", "system"):
        _check_cas(f"{_LIBPQ_CA}={by_libpq}", by_libpq)


def _check_cas(shown: str, path: str) -> None:
    try:
        checked_context(path)
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None


def _options(url: str) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in parse_qsl(urlsplit(url).query)]


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
