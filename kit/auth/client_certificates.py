"""Client certificates that a trusted proxy passes on: which station a request is from, without a token.

The proxy has verified the certificate's chain and that the client has its key; how its header is taken from trusted
proxies alone is `kit.web.serving.proxies`'s. Here the certificate is read, in either of two forms, and its subject's
common name is looked up among the credentials of stations. What is known is kept in memory as tokens are
(`kit.auth.authenticator`).
"""

import hashlib
import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar
from urllib.parse import unquote_to_bytes
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from kit.auth.bearer import unauthorized
from kit.auth.token_store import Principal
from kit.clock import Clock, format_rfc3339

CACHE_MAX: Final = 20_000  # certificates, and stations; ~800 B each: 16 MB. Beyond, the oldest is read again
REJECTED_MAX: Final = 10_000  # subjects that are no station's
HEADER_BYTES_MAX: Final = 16_384  # an RSA certificate of 4,096 bits is 2 kB, 3 kB where it is percent-encoded
_COMMON_NAME_CHARS_MAX: Final = 64  # X.520; as the registry of stations has it

# RFC 9440: one byte sequence of RFC 8941, without parameters.
_BYTE_SEQUENCE: Final = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")
_PEM: Final = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")

K = TypeVar("K")
V = TypeVar("V")


class InvalidCertificate(Exception):
    """What is no certificate, or says no common name. The message says why."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What is read of a certificate: moments in seconds since 1970, the ends included."""

    common_name: str
    not_before_s: float
    not_after_s: float


class CertificateStore(Protocol):
    """A TokenStore, as certificates need it."""

    async def certificate_station(self, common_name: str) -> str | None:
        """Whose it is; None: no station's. Raises Unavailable."""


class Guesses(Protocol):
    """What look-ups of an address cost it."""

    def check(self) -> None:
        """Raises Problem 429 where too many were in vain."""

    def fail(self) -> None:
        """One more is in vain."""


@dataclass(frozen=True, slots=True)
class _Device:
    station_id: str
    principal: Principal


class ClientCertificates:
    """Knows devices by their certificates. One a process; used from one event loop."""

    def __init__(self, store: CertificateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._parsed: dict[bytes, ClientCertificate] = {}  # by the hash of the header's value
        self._devices: dict[str, _Device] = {}  # by common name, whichever certificates have it
        self._rejected: set[str] = set()

    @property
    def stations(self) -> dict[str, str]:
        """The station of each common name that is remembered."""
        return {name: device.station_id for name, device in self._devices.items()}

    def known(self, value: bytes) -> Principal | None:
        """What `identify` gives for a certificate that is remembered and valid now; else None."""
        certificate = self._parsed.get(_hash_of(value))
        if certificate is None or self._why_not(certificate):
            return None
        device = self._devices.get(certificate.common_name)
        return None if device is None else device.principal

    async def identify(self, value: bytes, guesses: Guesses | None = None) -> Principal:
        """The device whose certificate a header has: it is for its station alone. The answers of `guesses` bound what
        is looked up; None: nothing does.

        Raises Problem 401, what `guesses` raises, and Unavailable.
        """
        value_hash = _hash_of(value)
        certificate = self._parsed.get(value_hash)
        try:
            certificate = certificate or parse_certificate(value)
        except InvalidCertificate as error:
            raise unauthorized(f"the client certificate that the proxy passes on: {error}", invalid=False) from None
        why_not = self._why_not(certificate)
        if why_not:
            raise unauthorized(f"the client certificate {why_not}", invalid=False)
        name = certificate.common_name
        device = self._devices.get(name) or await self._look_up(name, guesses)
        _keep(self._devices, name, device)
        _keep(self._parsed, value_hash, certificate)
        return device.principal

    def forget(self, common_names: Collection[str]) -> None:
        """Look these up again."""
        for name in common_names:
            self._devices.pop(name, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._devices.clear()

    def retry(self) -> None:
        """Look up again what was no station's."""
        self._rejected.clear()

    async def _look_up(self, name: str, guesses: Guesses | None) -> _Device:
        station_id = None
        if name not in self._rejected:
            if guesses is not None:
                guesses.check()
            station_id = await self._store.certificate_station(name)
            if station_id is None:
                if guesses is not None:
                    guesses.fail()
                if len(self._rejected) >= REJECTED_MAX:
                    self._rejected.clear()
                self._rejected.add(name)
        if station_id is None:
            raise unauthorized(
                "the client certificate is no station's; an operator sets its common name as certificate_subject in "
                "the station's credentials",
                invalid=False,
            )
        return _Device(station_id, _principal(station_id))

    def _why_not(self, certificate: ClientCertificate) -> str:
        """Why it is not accepted now; empty: it is."""
        now_s = self._clock.now_ms() / 1000
        if now_s < certificate.not_before_s:
            return f"is not valid before {_shown(certificate.not_before_s)}"
        if now_s > certificate.not_after_s:
            return f"expired at {_shown(certificate.not_after_s)}; the station needs a new one"
        return ""


def parse_certificate(value: bytes) -> ClientCertificate:
    """Of a header's value: a byte sequence as RFC 9440 has it, or PEM, percent-encoded or not, with spaces for the ends
    of lines or not. Raises InvalidCertificate."""
    try:
        certificate = x509.load_der_x509_certificate(_der(value))
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # The parser raises any of these for hostile bytes, which are no error of ours, and warns of odd certificates.
    except (ValueError, TypeError, OverflowError, x509.InvalidVersion, UnsupportedAlgorithm, Warning):
        raise InvalidCertificate("it is no X.509 certificate") from None
    if len(names) != 1:
        raise InvalidCertificate(f"its subject has {len(names)} common names, and needs one")
    name = names[0].value
    if not isinstance(name, str) or not 0 < len(name) <= _COMMON_NAME_CHARS_MAX or "\0" in name:
        raise InvalidCertificate(f"its common name is not 1 to {_COMMON_NAME_CHARS_MAX} characters")
    return ClientCertificate(name, not_before.timestamp(), not_after.timestamp())


def _der(value: bytes) -> bytes:
    """Raises InvalidCertificate, ValueError."""
    if len(value) > HEADER_BYTES_MAX:
        raise InvalidCertificate(f"it is longer than {HEADER_BYTES_MAX} bytes")
    sequence = _BYTE_SEQUENCE.fullmatch(value)
    pem = None if sequence else _PEM.fullmatch(unquote_to_bytes(value))
    if sequence is None and pem is None:
        raise InvalidCertificate("one is expected, as RFC 9440 has it (:base64:) or as percent-encoded PEM")
    try:
        return b64decode(sequence[1] if sequence else b"".join((pem or [b"", b""])[1].split()), validate=True)
    except Base64Error:
        raise InvalidCertificate("its base64 is malformed") from None


def _principal(station_id: str) -> Principal:
    """Counted by station, whichever certificates it has."""
    identity = json.dumps(["client certificate", station_id])
    token_id = UUID(bytes=hashlib.sha256(identity.encode("ascii")).digest()[:16])
    return Principal("device", token_id, frozenset({station_id}), station_id)


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    """Remember it, in place of the oldest where there are too many."""
    if key not in cache and len(cache) >= CACHE_MAX:
        del cache[next(iter(cache))]
    cache[key] = value


def _hash_of(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _shown(moment_s: float) -> str:
    return format_rfc3339(int(moment_s * 1000))
