"""JWTs issued by an identity provider or an API gateway, verified with the one key of the settings.

Claims: `exp`; `sub`, the subject; `roles`, a list of which only our kinds of token are used; `stations`, optional, as
of a stored token. `iss` and `aud` are checked where the settings name them. The algorithm follows from the key alone
and a token's header must name it, so neither "none" nor a public key taken for a shared secret is accepted.
"""

import base64
import binascii
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from kit.auth.token_store import KINDS, Principal, valid_subject
from kit.clock import Clock, format_rfc3339
from kit.errors import ConfigError
from kit.settings import Settings

LEEWAY_S: Final = 30  # between the issuer's clock and ours
CACHE_MAX: Final = 10_000  # verified tokens; ~1 kB each: 10 MB. Beyond, the oldest is verified again
_TOKEN_CHARS_MAX: Final = 8_192  # HTTP servers take no longer header
_SECRET_BYTES_MIN: Final = 32  # of HS256: its hash's length (RFC 7518, 3.2)
_RSA_BITS_MIN: Final = 2_048  # RFC 7518, 3.3
_KEY_BYTES_MAX: Final = 65_536  # of the file; an RSA key of 16,384 bits has 2,800
_EPOCH_S_MAX: Final = 253_402_300_799  # the end of the year 9999

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_OPTIONS: Final[Any] = {
    "require": ["exp", "sub"],
    # Checked here, by the injected clock.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class InvalidToken(Exception):
    """A signed token that is not accepted. The message says why and what to do, and has no part of the token."""


@dataclass(frozen=True, slots=True)
class _Key:
    value: Any  # a public key of cryptography's, or the bytes of a shared secret
    algorithm: str


@dataclass(frozen=True, slots=True)
class _Verified:
    expires_s: float
    principals: tuple[Principal, ...]


class SignedTokens:
    """Verifies signed tokens. One a process; used from one event loop."""

    def __init__(self, key_file: Path, clock: Clock, *, issuer: str = "", audience: str = "") -> None:
        """Raises ConfigError where the file holds no key to verify with."""
        self._key = _read_key(key_file)
        self._clock = clock
        self._issuer = issuer or None
        self._audience = audience or None
        self._options: Any = {**_OPTIONS, "verify_aud": bool(audience), "verify_iss": bool(issuer)}
        self._verified: dict[bytes, _Verified] = {}

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> "SignedTokens | None":
        """By the settings; None where they name no key. Raises ConfigError."""
        if not settings.jwt_key_file:
            return None
        key_file = Path(settings.jwt_key_file)
        return cls(key_file, clock, issuer=settings.jwt_issuer, audience=settings.jwt_audience)

    @property
    def algorithm(self) -> str:
        """The algorithm that tokens must be signed with."""
        return self._key.algorithm

    def verify(self, token: str) -> tuple[Principal, ...]:
        """The token's principals, one for each role that is one of our kinds. Raises InvalidToken."""
        token_hash = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(token_hash)
        if known is None:
            known = self._checked(token, UUID(bytes=token_hash[:16]))
            if len(self._verified) >= CACHE_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[token_hash] = known
        if self._clock.now_ms() / 1000 >= known.expires_s + LEEWAY_S:
            del self._verified[token_hash]
            expired_at = format_rfc3339(int(known.expires_s * 1000))
            raise InvalidToken(f"the token expired at {expired_at}; get a new one where you got it")
        return known.principals

    def known(self, token: str) -> tuple[Principal, ...] | None:
        """What `verify` gives for a token that was verified before and has not expired; else None."""
        known = self._verified.get(hashlib.sha256(token.encode()).digest())
        if known is None or self._clock.now_ms() / 1000 >= known.expires_s + LEEWAY_S:
            return None
        return known.principals

    def _checked(self, token: str, token_id: UUID) -> _Verified:
        claims = self._claims(token)
        not_before_s = _moment_s(claims, "nbf", 0.0)
        if not_before_s > self._clock.now_ms() / 1000 + LEEWAY_S:
            raise InvalidToken(f"the token is not valid before {format_rfc3339(int(not_before_s * 1000))}")
        expires_s = _moment_s(claims, "exp", None)
        subject = claims["sub"]
        if not isinstance(subject, str) or not valid_subject(subject):
            raise InvalidToken("the token's `sub` must be 1 to 64 printable characters")
        roles = _strings(claims, "roles")
        stations = frozenset(name.upper() for name in _strings(claims, "stations")) if "stations" in claims else None
        return _Verified(
            expires_s, tuple(Principal(kind, token_id, stations, subject) for kind in KINDS if kind in roles)
        )

    def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > _TOKEN_CHARS_MAX:
            raise InvalidToken(f"the token is longer than {_TOKEN_CHARS_MAX} characters")
        algorithm = self._key.algorithm
        try:
            return jwt.decode(
                token,
                self._key.value,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options=self._options,
            )
        except jwt.InvalidAlgorithmError:
            raise InvalidToken(f"the token must be signed with {algorithm}") from None
        except jwt.InvalidSignatureError:
            raise InvalidToken("the token was altered, or signed with a key that is not trusted here") from None
        except jwt.InvalidAudienceError:
            raise InvalidToken(f"the token is for another audience; ask its issuer for {self._audience}") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken(f"the token is of another issuer; {self._issuer} is trusted here") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"the token has no `{error.claim}`; its issuer must say it") from None
        # The parser raises any of these for hostile bytes, which are no error of ours.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidToken("the token is malformed: three parts of a signed JWT are expected") from None


def _moment_s(claims: Mapping[str, Any], name: str, default: float | None) -> float:
    value = claims.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _EPOCH_S_MAX:
        raise InvalidToken(f"the token's `{name}` must be seconds since 1970")
    return float(value)


def _strings(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidToken(f"the token's `{name}` must be a list of strings")
    return value


def _read_key(path: Path) -> _Key:
    """The key and with it the algorithm; surrounding white space is ignored. Raises ConfigError."""

    def wrong(what: str) -> ConfigError:
        return ConfigError(
            f"VOLTSTREAM_JWT_KEY_FILE={path}: {what}; it must hold a public key as PEM (RSA, P-256, P-384, P-521, "
            f"Ed25519) or a shared secret of at least {_SECRET_BYTES_MIN} bytes"
        )

    try:
        with path.open("rb") as file:
            content = file.read(_KEY_BYTES_MAX + 1).strip()
    except OSError as error:
        raise wrong(f"cannot be read ({error.strerror})") from None
    if len(content) > _KEY_BYTES_MAX:
        raise wrong(f"is longer than {_KEY_BYTES_MAX} bytes")
    if b"-----BEGIN" in content:
        if b"PRIVATE KEY" in content:
            raise wrong("holds a private key, which belongs to the issuer alone")
        return _public_key(content, wrong)
    if _is_published(content):
        raise wrong("holds a public key that is not PEM, which as a secret everybody would know")
    if len(content) < _SECRET_BYTES_MIN:
        raise wrong(f"holds a secret of {len(content)} bytes")
    return _Key(content, "HS256")


def _public_key(pem: bytes, wrong: Callable[[str], ConfigError]) -> _Key:
    try:
        key = load_pem_public_key(pem)
    except Exception:  # ValueError, UnsupportedAlgorithm, and what lies below them
        raise wrong("holds no public key") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS_MIN:
            raise wrong(f"holds an RSA key of {key.key_size} bits, fewer than {_RSA_BITS_MIN}")
        return _Key(key, "RS256")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _Key(key, _CURVES[key.curve.name])
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _Key(key, "EdDSA")
    raise wrong("holds a public key of another kind")


def _is_published(content: bytes) -> bool:
    """Whether this is a public key in another common form: JWK, SSH, DER, base64."""
    if content.startswith((b"{", b"[", b"ssh-", b"ecdsa-")):
        return True
    candidates = [content]
    with contextlib.suppress(binascii.Error):
        candidates.append(base64.b64decode(b"".join(content.split()), validate=True))
    for candidate in candidates:
        try:
            load_der_public_key(candidate)
        except Exception:  # noqa: S112  # any error: it is no public key
            continue
        return True
    return False
