"""JWTs issued by an identity provider or an API gateway.

Claims: `exp`; `sub`, the subject; the roles, a list, by default in `roles`; `stations` and the organisation, by default
in `organisation`, optional, as of a stored token; `jti` and `iat`, by which a token can be revoked before it expires;
optional, but that a longest lifetime needs `iat`. `iss` and `aud` are checked where the settings name them, which they
must where keys are read from a URL. The keys are those of `kit.auth.key_file` or `kit.auth.jwks`.

The id of a signed token is that of its issuer and subject: whoever gets many for one subject, or writes one in several
ways, has one bound of everything that is counted by token.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import jwt

from kit.auth.errors import InvalidToken
from kit.auth.key_file import FileKey, TrustedKey
from kit.auth.revocations import NONE_REVOKED, SignedRevocations
from kit.auth.scopes import KINDS, SCOPES, Kind, Scope
from kit.auth.token_store import ORGANISATION_CHARS_MAX, Principal, valid_organisation, valid_subject
from kit.clock import Clock, format_rfc3339
from kit.settings import Settings

DAY_S: Final = 86_400
LEEWAY_S: Final = 30  # between the issuer's clock and ours
CACHE_MAX: Final = 10_000  # verified tokens; ~1 kB each: 10 MB. Beyond, the oldest is verified again
_TOKEN_CHARS_MAX: Final = 8_192  # HTTP servers take no longer header
_EPOCH_S_MAX: Final = 253_402_300_799  # the end of the year 9999
# What a header may say of the kind of token (RFC 9068): others are for logging out, for proofs, for events.
_TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")
_OF_ID_TOKENS: Final = ("at_hash", "c_hash")  # OpenID Connect Core 1.0: they tell a client who logged in, and no more

_ABSENT: Final = object()
_OPTIONS: Final[Any] = {
    "require": ["exp", "sub"],
    # Checked here, by the injected clock.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_jti": False,
}


class Keys(Protocol):
    """The keys that tokens may be signed with."""

    @property
    def version(self) -> int:
        """Another one whenever the keys have changed."""

    def key_for(self, token: str) -> TrustedKey:
        """The key to verify this token with. Raises InvalidToken, UnknownKey."""

    async def refresh(self) -> bool:
        """Read them again where that was not done just now. Whether they have been read. Raises Unavailable where none
        have ever been read."""

    def poll(self) -> None:
        """Begin to read them again if that is due; called every few seconds."""

    async def describe(self) -> str:
        """Which they are, for people. Raises Unavailable where they cannot be read now."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claims must be, and what they mean."""

    issuer: str | None = None  # None: any
    audience: str | None = None
    roles_claim: str = "roles"  # or a path, `realm_access.roles`
    roles: Mapping[str, Kind] = field(default_factory=lambda: {kind: kind for kind in KINDS})  # the issuer's -> ours
    scopes_claim: str = ""  # empty: a token has all scopes of its roles
    lifetime_days_max: int = 0  # from `iat` to `exp`; 0: no bound
    organisation_claim: str = "organisation"  # or a path


@dataclass(frozen=True, slots=True)
class _Verified:
    expires_s: float
    principals: tuple[Principal, ...]
    jti: str | None
    subject: str
    issued_s: float | None


class SignedTokens:
    """Verifies signed tokens. One a process; used from one event loop."""

    def __init__(self, keys: Keys, clock: Clock, rules: ClaimRules | None = None) -> None:
        self._keys = keys
        self._clock = clock
        self._rules = rules = rules or ClaimRules()
        self._options: Any = {**_OPTIONS, "verify_aud": rules.audience is not None, "verify_iss": bool(rules.issuer)}
        self._verified: dict[bytes, _Verified] = {}
        self._keys_version = keys.version
        self._revocations = NONE_REVOKED

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> "SignedTokens | None":
        """By the settings; None where they name no key. Raises ConfigError."""
        keys: Keys
        if settings.jwt_jwks_url or settings.jwt_discovery:
            from kit.auth.jwks import JwksKeys  # its HTTP client takes memory that few processes need

            keys = JwksKeys(
                settings.jwt_jwks_url,
                settings.jwt_issuer if settings.jwt_discovery else "",
                clock,
                ca_file=settings.tls_ca_file,
            )
        elif settings.jwt_key_file:
            keys = FileKey(Path(settings.jwt_key_file))
        else:
            return None
        rules = ClaimRules(
            settings.jwt_issuer or None,
            settings.jwt_audience or None,
            settings.jwt_roles_claim,
            settings.jwt_roles or {kind: kind for kind in KINDS},
            settings.jwt_scopes_claim,
            settings.jwt_lifetime_days_max,
            settings.jwt_organisation_claim,
        )
        return cls(keys, clock, rules)

    @property
    def keys(self) -> Keys:
        """The keys that tokens must be signed with."""
        return self._keys

    def set_revocations(self, revocations: SignedRevocations) -> None:
        """What is revoked from now on."""
        self._revocations = revocations
        kept = {key: one for key, one in self._verified.items() if not self._is_revoked(one)}
        self._verified = kept

    def verify(self, token: str) -> tuple[Principal, ...]:
        """The token's principals, one for each role that is one of ours. Raises InvalidToken, UnknownKey."""
        token_hash = hashlib.sha256(token.encode()).digest()
        known = self._remembered(token_hash)
        if known is None:
            known = self._checked(token)
            if self._is_revoked(known):
                raise InvalidToken("the token is revoked; get a new one where you got it")
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
        known = self._remembered(hashlib.sha256(token.encode()).digest())
        if known is None or self._clock.now_ms() / 1000 >= known.expires_s + LEEWAY_S:
            return None
        return known.principals

    def _remembered(self, token_hash: bytes) -> _Verified | None:
        if self._keys.version != self._keys_version:  # a key may be gone
            self._keys_version = self._keys.version
            self._verified.clear()
        return self._verified.get(token_hash)

    def _is_revoked(self, one: _Verified) -> bool:
        return self._revocations.revoke(one.jti, one.subject, one.issued_s)

    def _checked(self, token: str) -> _Verified:
        claims = self._claims(token)
        kind = jwt.get_unverified_header(token).get("typ", "JWT")  # verified by now
        if not isinstance(kind, str) or kind.lower() not in _TYPES or any(name in claims for name in _OF_ID_TOKENS):
            raise InvalidToken("the token is no access token; send the `access_token` that its issuer gave")
        not_before_s = _moment_s(claims, "nbf", 0.0)
        if not_before_s > self._clock.now_ms() / 1000 + LEEWAY_S:
            raise InvalidToken(f"the token is not valid before {format_rfc3339(int(not_before_s * 1000))}")
        expires_s = _moment_s(claims, "exp", None)
        issued_s = _moment_s(claims, "iat", None) if "iat" in claims else None
        self._check_lifetime(issued_s, expires_s)
        jti, subject = claims.get("jti"), claims["sub"]
        if not isinstance(subject, str) or not valid_subject(subject):
            raise InvalidToken("the token's `sub` must be 1 to 64 printable characters")
        if jti is not None and not isinstance(jti, str):
            raise InvalidToken("the token's `jti` must be a string")
        kinds = self._kinds(claims)
        limited = self._limited(claims)
        stations = frozenset(name.upper() for name in _strings(claims, "stations")) if "stations" in claims else None
        token_id = _id_of(self._rules.issuer or claims.get("iss"), subject)
        organisation = self._organisation(claims)
        principals = tuple(
            Principal(kind, token_id, stations, subject, limited, expires_s, organisation)
            for kind in KINDS
            if kind in kinds
        )
        return _Verified(expires_s, principals, jti, subject, issued_s)

    def _check_lifetime(self, issued_s: float | None, expires_s: float) -> None:
        """Raises InvalidToken. One that is issued in the future would outlive its revocation."""
        days = self._rules.lifetime_days_max
        if not days:
            return
        if issued_s is None:
            raise InvalidToken("the token has no `iat`; its issuer must say it")
        if issued_s > self._clock.now_ms() / 1000 + LEEWAY_S:
            raise InvalidToken(f"the token is issued in the future, at {format_rfc3339(int(issued_s * 1000))}")
        if expires_s - issued_s > days * DAY_S:
            raise InvalidToken(f"the token is valid for more than {days} days; ask its issuer for a shorter one")

    def _kinds(self, claims: Mapping[str, Any]) -> set[Kind]:
        name = self._rules.roles_claim
        names = _strings({name: _at(claims, name, [])}, name)
        return {self._rules.roles[one] for one in names if one in self._rules.roles}

    def _organisation(self, claims: Mapping[str, Any]) -> str | None:
        name = self._rules.organisation_claim
        value = _at(claims, name, _ABSENT)
        if value is _ABSENT:
            return None
        if not isinstance(value, str) or not valid_organisation(value):
            raise InvalidToken(f"the token's `{name}` must be 1 to {ORGANISATION_CHARS_MAX} printable characters")
        return value

    def _limited(self, claims: Mapping[str, Any]) -> frozenset[Scope] | None:
        name = self._rules.scopes_claim
        if not name:
            return None
        value = _at(claims, name, [])
        given = value.split() if isinstance(value, str) else _strings({name: value}, name)
        return frozenset(scope for scope in SCOPES if scope in given)

    def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > _TOKEN_CHARS_MAX:
            raise InvalidToken(f"the token is longer than {_TOKEN_CHARS_MAX} characters")
        rules = self._rules
        try:
            key = self._keys.key_for(token)
            return jwt.decode(
                token,
                key.value,
                algorithms=list(key.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                options=self._options,
            )
        except jwt.InvalidAlgorithmError:
            raise InvalidToken(f"the token must be signed with {' or '.join(key.algorithms)}") from None
        except jwt.InvalidSignatureError:
            raise InvalidToken("the token was altered, or signed with a key that is not trusted here") from None
        except jwt.InvalidAudienceError:
            raise InvalidToken(f"the token is for another audience; ask its issuer for {rules.audience}") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken(f"the token is of another issuer; {rules.issuer} is trusted here") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"the token has no `{error.claim}`; its issuer must say it") from None
        # The parser raises any of these for hostile bytes, which are no error of ours.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidToken("the token is malformed: three parts of a signed JWT are expected") from None


def _id_of(issuer: object, subject: str) -> UUID:
    """The id of all tokens of this subject. An issuer that is not checked may be anything."""
    identity = json.dumps([issuer if isinstance(issuer, str) else "", subject])
    return UUID(bytes=hashlib.sha256(identity.encode("ascii")).digest()[:16])


def _moment_s(claims: Mapping[str, Any], name: str, default: float | None) -> float:
    value = claims.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _EPOCH_S_MAX:
        raise InvalidToken(f"the token's `{name}` must be seconds since 1970")
    return float(value)


def _at(claims: Mapping[str, Any], path: str, default: object) -> Any:
    """The claim of that name, or what a path with dots leads to."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return default
        value = value[name]
    return value


def _strings(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidToken(f"the token's `{name}` must be a list of strings")
    return value
