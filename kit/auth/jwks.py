"""The keys of an identity provider, read from its JWKS URL or by OIDC discovery.

They are read when the first token comes, every five minutes while tokens come, and when a token names a key that is not
known, then at most every ten seconds: a key that is new there is trusted at once, one that is gone within five minutes.
While the provider does not answer, the known keys stay. Reading never blocks the event loop, and is bounded in time and
bytes. Only asymmetric algorithms are read: a published key is no secret.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kit.auth.errors import InvalidToken, UnknownKey
from kit.auth.key_file import CURVES, RSA_BITS_MIN, TrustedKey
from kit.clock import Clock
from kit.errors import ConfigError, Unavailable
from kit.futures import mark_seen
from kit.observability.logs import get_logger
from kit.tls import outside_context, refusal

READ_EVERY_S: Final = 300.0
READ_AGAIN_S: Final = 10.0  # at least between two readings, whatever tokens name
READ_S_MAX: Final = 5.0  # for discovery and keys together
BYTES_MAX: Final = 256 * 1024  # an RSA key with its certificates is ~5 kB
KEYS_MAX: Final = 100
KID_CHARS_MAX: Final = 256
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_DISCOVERY: Final = "/.well-known/openid-configuration"
_UNREADABLE: Final = (ValueError, httpx.HTTPError, httpx.InvalidURL, TimeoutError)
_log = get_logger(__name__)

Fetch = Callable[[str], Awaitable[bytes]]
"""The body at a URL. Raises ValueError, httpx.HTTPError, TimeoutError."""


class JwksKeys:
    """Keys by their `kid`. One a process; used from one event loop."""

    def __init__(self, url: str, issuer: str, clock: Clock, fetch: "Fetch | None" = None, *, ca_file: str = "") -> None:
        """`url`: of the JWKS; empty: as the discovery document of `issuer` says. `ca_file`: CAs that are trusted beside
        the system's. Raises ConfigError."""
        for name, given in (("VOLTSTREAM_JWT_JWKS_URL", url), ("VOLTSTREAM_JWT_ISSUER", "" if url else issuer)):
            if given and not is_safe(given):
                raise ConfigError(f"{name}={given}: write https://…; http:// is for loopback alone")
        self._url = url
        self._issuer = issuer
        self._monotonic_s = clock.monotonic_s
        self._fetch = fetch or partial(fetch_over_http, ca_file=ca_file)
        self._documents: dict[str, list[object]] = {}  # the keys as they were read
        self._keys: Mapping[str, TrustedKey] | None = None  # None: never read
        self._version = 0
        self._asked_s = -READ_EVERY_S
        self._reading: asyncio.Task[bool] | None = None

    @property
    def version(self) -> int:
        """Another one whenever the keys have changed."""
        return self._version

    def key_for(self, token: str) -> TrustedKey:
        """The key that the token names by `kid`; the only one there is where it names none. Raises InvalidToken,
        UnknownKey."""
        kid = jwt.get_unverified_header(token).get("kid")
        keys = self._keys or {}
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        if kid is None and keys:
            raise InvalidToken("the token's header must name its key (`kid`): the issuer has several")
        if kid is not None and (not isinstance(kid, str) or len(kid) > KID_CHARS_MAX):
            raise InvalidToken(f"the token's `kid` must be a string of at most {KID_CHARS_MAX} characters")
        if kid is None or kid not in keys:
            raise UnknownKey("the token is signed with a key that its issuer does not publish; get a new one there")
        return keys[kid]

    async def refresh(self) -> bool:
        """Read the keys, unless that was done just now. Whether they have been read. Raises Unavailable where none have
        ever been read: then no token can be judged."""
        if self._reading is None and self._monotonic_s() - self._asked_s >= READ_AGAIN_S:
            self._begin()
        done = False
        if self._reading is not None:
            done = await asyncio.shield(self._reading)
        if self._keys is None:
            raise Unavailable("the identity provider's keys are not known: it does not answer")
        return done

    def poll(self) -> None:
        """Begin to read them again where that is due."""
        if self._keys is not None and self._reading is None and self._monotonic_s() - self._asked_s >= READ_EVERY_S:
            self._begin()

    async def read(self) -> int:
        """Read the keys now; how many there are. Raises ValueError, httpx.HTTPError, TimeoutError."""
        async with asyncio.timeout(READ_S_MAX):
            url = self._url or await self._discovered()
            documents = _documents_of(_object_of(await self._fetch(url), url), url)
        if self._keys is None or documents != self._documents:
            usable = {kid: [key for one in some if (key := _key_of(one))] for kid, some in documents.items()}
            keys = {kid: some[0] for kid, some in usable.items() if some}
            if not keys:
                raise ValueError(f"{url} has no key to verify signatures with")
            self._documents, self._keys = documents, keys
            self._version += 1
        return len(self._keys)

    def _begin(self) -> None:
        self._asked_s = self._monotonic_s()
        self._reading = asyncio.create_task(self._read_or_keep(), name="jwks")
        self._reading.add_done_callback(self._ended)

    def _ended(self, reading: "asyncio.Task[bool]") -> None:
        mark_seen(reading)
        self._reading = None

    async def _read_or_keep(self) -> bool:
        try:
            await self.read()
        except _UNREADABLE as error:
            kept = 0 if self._keys is None else len(self._keys)
            _log.warning("jwks_unreadable", error=_said(error), kept=kept)
            return False
        return True

    async def _discovered(self) -> str:
        """The JWKS URL of the issuer (OpenID Connect Discovery 1.0, section 4.3: it must name itself exactly)."""
        address = self._issuer.rstrip("/") + _DISCOVERY
        document = _object_of(await self._fetch(address), address)
        if document.get("issuer") != self._issuer:
            raise ValueError(
                f"{address} is of another issuer than {self._issuer}; set VOLTSTREAM_JWT_ISSUER as it says"
            )
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_safe(url):
            raise ValueError(f"{address} has no jwks_uri of https")
        return url

    async def describe(self) -> str:
        """See signed_tokens.Keys: they are read now."""
        try:
            count = await self.read()
        except _UNREADABLE as error:
            raise Unavailable(f"the keys of {self._url or self._issuer} cannot be read: {_said(error)}") from error
        return f"one of {count} keys of {self._url or self._issuer}"


def _said(error: BaseException) -> str:
    return refusal(error) or str(error) or type(error).__name__


def is_safe(url: str) -> bool:
    """Whether keys may be read there: by https, or from this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))


async def fetch_over_http(url: str, *, ca_file: str = "") -> bytes:
    """The body at the URL, without following redirects. Raises ValueError, httpx.HTTPError."""
    parts = urlsplit(url)
    own = parts.hostname in LOOPBACK
    try:
        verify = await asyncio.to_thread(outside_context, ca_file) if parts.scheme == "https" and ca_file else True
    except OSError as error:
        raise ValueError(f"VOLTSTREAM_TLS_CA_FILE={ca_file} cannot be read ({error})") from None
    async with (
        httpx.AsyncClient(timeout=READ_S_MAX, follow_redirects=False, trust_env=not own, verify=verify) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"{url} answers {response.status_code}")
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > BYTES_MAX:
                raise ValueError(f"{url} is longer than {BYTES_MAX} bytes")
    return body


def _object_of(body: bytes, url: str) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise ValueError(f"{url} is no JSON object") from None


def _documents_of(jwks: Mapping[str, Any], url: str) -> dict[str, list[object]]:
    """The JWKs by `kid`; those without one by an empty one. Several may have one `kid`: one to encrypt, one to sign."""
    documents = jwks.get("keys")
    if not isinstance(documents, list) or len(documents) > KEYS_MAX:
        raise ValueError(f"{url} has no `keys`, a list of at most {KEYS_MAX}")
    found: dict[str, list[object]] = {}
    for one in documents:
        kid = one.get("kid", "") if isinstance(one, dict) else None
        if isinstance(kid, str) and len(kid) <= KID_CHARS_MAX:
            found.setdefault(kid, []).append(one)
    return found


def _key_of(document: object) -> TrustedKey | None:
    """The key of a JWK; None where it is not for signatures, symmetric, too short, or of another kind."""
    if not isinstance(document, dict) or document.get("use", "sig") != "sig" or document.get("kty") == "oct":
        return None
    if "verify" not in (document.get("key_ops") or ("verify",)):
        return None
    algorithm = document.get("alg")
    try:
        value = jwt.PyJWK(document).key
    except Exception:  # PyJWTError and what lies below it, for hostile documents
        return None
    if hasattr(value, "public_key"):  # a private key, which nobody should publish: it is everybody's
        return None
    fitting: tuple[str, ...]
    if isinstance(value, rsa.RSAPublicKey):
        fitting = _RSA if value.key_size >= RSA_BITS_MIN else ()
    elif isinstance(value, ec.EllipticCurvePublicKey):
        fitting = (CURVES[value.curve.name],) if value.curve.name in CURVES else ()
    else:
        fitting = ("EdDSA",) if isinstance(value, ed25519.Ed25519PublicKey) else ()
    algorithms = fitting if algorithm is None else tuple(one for one in fitting if one == algorithm)
    return TrustedKey(value, algorithms) if algorithms else None
