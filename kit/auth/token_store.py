"""Stored access tokens: issue, rotate, revoke, list, find. The SQL of schema `access` is here.

A token is a prefix that tells its role, `vso_` an operator's, and 256 random bits; it is shown once, when issued, and
stored hashed.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from kit.audit.entry import Actor
from kit.audit.recording import record
from kit.auth.revocations import SignedRevocations
from kit.auth.scopes import Kind, Scope, scopes_of
from kit.auth.station_filter import EVERY_STATION, StationFilter, sees
from kit.auth.token_lifetimes import UNBOUNDED, TokenLifetimes
from kit.clock import format_rfc3339
from kit.database.postgres import Database

SUBJECT_CHARS_MAX: Final = 64
ORGANISATION_CHARS_MAX: Final = 64  # as the registry of stations has it

PREFIXES: Final[dict[Kind, str]] = {
    "admin": "vsx_",
    "operator": "vso_",
    "finance": "vsf_",
    "support": "vss_",
    "auditor": "vsa_",
    "driver": "vsu_",
    "device": "vsd_",
}
# 43 base64url characters hold 256 bits.
_TOKEN: Final = re.compile(f"(?:{'|'.join(PREFIXES.values())})[A-Za-z0-9_-]{{43}}", re.ASCII)
_COLUMNS: Final = """id, kind, label, stations, organisation, subject, scopes, created_at, expires_at, last_used_at,
revoked_at, previous_expires_at, idle_from"""
_INSERT: Final = f"""INSERT INTO access.token
    (id, kind, hash, label, stations, organisation, subject, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}"""  # noqa: S608  # the names above
# $2: how long one may be unused, but for devices'; null: for ever.
_VALID: Final = """revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
AND (kind = 'device' OR $2::interval IS NULL OR greatest(last_used_at, idle_from) > clock_timestamp() - $2::interval)"""
# Both hashes have an index of their own.
_FIND: Final = f"""SELECT kind, id, stations, organisation, subject, scopes, expires_at FROM access.token
WHERE hash = $1 AND {_VALID}
UNION ALL
SELECT kind, id, stations, organisation, subject, scopes, least(expires_at, previous_expires_at) FROM access.token
WHERE previous_hash = $1 AND previous_expires_at > clock_timestamp() AND {_VALID}"""  # noqa: S608  # the text above
_GONE: Final = f"""SELECT asked.hash FROM unnest($1::bytea[]) AS asked (hash)
WHERE NOT EXISTS (SELECT FROM access.token WHERE hash = asked.hash AND {_VALID})
AND NOT EXISTS (
    SELECT FROM access.token
    WHERE previous_hash = asked.hash AND previous_expires_at > clock_timestamp() AND {_VALID}
)"""  # noqa: S608  # the text above
_ROTATE: Final = f"""UPDATE access.token SET
    previous_hash = hash, previous_expires_at = clock_timestamp() + $4, hash = $3, expires_at = $5,
    idle_from = clock_timestamp()
WHERE id = $1 AND {_VALID} RETURNING {_COLUMNS}"""  # noqa: S608  # the text above
_REVOKE: Final = f"""UPDATE access.token SET revoked_at = clock_timestamp()
WHERE id = $1 AND revoked_at IS NULL RETURNING {_COLUMNS}"""  # noqa: S608  # the names above
_TO_ROTATE: Final = "SELECT kind, expires_at, clock_timestamp() AS now FROM access.token WHERE id = $1 FOR UPDATE"
_USED: Final = """UPDATE access.token SET last_used_at = clock_timestamp() WHERE id = ANY($1::uuid[])"""
_LIST: Final = f"SELECT {_COLUMNS} FROM access.token ORDER BY created_at, id"  # noqa: S608  # our own names
# One row without values where there is none. A hash of all ids: one that commits late has a smaller one than others.
_REVOCATIONS: Final = """
WITH stored AS (
    SELECT coalesce(hashtextextended(string_agg(id::text, ',' ORDER BY id), 0), 0) AS fingerprint
    FROM access.signed_token_revocation
)
SELECT fingerprint, jti, subject, (extract(epoch FROM issued_before) * 1000)::bigint
FROM stored LEFT JOIN access.signed_token_revocation ON true WHERE fingerprint <> $1"""
_REVOKE_SIGNED: Final = """INSERT INTO access.signed_token_revocation (jti, subject, issued_before)
VALUES ($1, $2, $3)"""
_FORGET_SIGNED: Final = """DELETE FROM access.signed_token_revocation
WHERE coalesce(issued_before, revoked_at) < clock_timestamp() - $1::interval"""
_CERTIFICATE_STATIONS: Final = "SELECT certificate_subject, station_id FROM stations.certificate_stations($1::text[])"
_CLOCKS: Final = timedelta(days=1)  # between the issuer's clock, ours and the database's, leeway included


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity that a verified token, or client certificate, stands for."""

    kind: Kind
    token_id: UUID
    stations: frozenset[str] | None  # upper case; None: all
    # A driver's id, the subject of a signed token, the station of a certificate; None: a stored token of another kind.
    subject: str | None = None
    limited_to: frozenset[Scope] | None = None  # of the role's scopes; None: all
    expires_s: float | None = None  # since 1970; None: never
    organisation: str | None = None  # whose stations it is for; None: all
    scopes: frozenset[Scope] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", scopes_of(self.kind, self.limited_to))

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes

    def covers(self, station_id: str) -> bool:
        """Whether the token names this station, or none. Of an organisation's token only the registry can say more."""
        return self.stations is None or station_id.upper() in self.stations

    @property
    def is_limited(self) -> bool:
        """Whether it is for some stations only."""
        return self.stations is not None or self.organisation is not None

    @property
    def only(self) -> StationFilter:
        """The stations whose things it may see. What is a driver's own is so at every station."""
        return EVERY_STATION if self.kind == "driver" else self.bound

    @property
    def bound(self) -> StationFilter:
        """The stations that it may be used for, a driver's token too."""
        return StationFilter(self.stations, self.organisation)

    @property
    def name(self) -> str:
        """Who it is, as audits and histories have it: the kind, and the subject or, without one, the token's id."""
        return f"{self.kind}/{self.subject or self.token_id}"

    @property
    def own_driver(self) -> str | None:
        """The driver to whose things it is limited; None: it is no driver."""
        return self.driver_id if self.kind == "driver" else None

    @property
    def driver_id(self) -> str:
        """The subject of a driver. Raises ValueError for any other kind, whose subject is no driver."""
        if self.kind != "driver" or self.subject is None:
            raise ValueError(f"a token of kind {self.kind} speaks for no driver")
        return self.subject


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it is listed: everything but the token itself."""

    token_id: UUID
    kind: Kind
    label: str
    stations: tuple[str, ...] | None
    organisation: str | None
    subject: str | None
    scopes: tuple[Scope, ...] | None  # None: all of its role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None  # some minutes late
    revoked_at: datetime | None
    previous_expires_at: datetime | None  # until when the secret before the last rotation is, or was, valid
    idle_from: datetime  # since when its uses count: its issue or its last rotation

    @property
    def unused_since(self) -> datetime:
        """Its last use, or since when there was none."""
        return self.idle_from if self.last_used_at is None else max(self.last_used_at, self.idle_from)


def well_formed(token: str) -> bool:
    """Whether the text has the form of a stored token."""
    return _TOKEN.fullmatch(token) is not None


def valid_subject(subject: str) -> bool:
    """Whether this can name a driver: 1 to 64 printable characters, no space at either end."""
    return 0 < len(subject) <= SUBJECT_CHARS_MAX and subject.isprintable() and subject == subject.strip()


def valid_organisation(name: str) -> bool:
    """Whether this can name an organisation: 1 to 64 printable characters, no space at either end."""
    return 0 < len(name) <= ORGANISATION_CHARS_MAX and name.isprintable() and name == name.strip()


def hash_of(token: str) -> bytes:
    """What is stored of a token: its SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


class TokenStore:
    """The tokens in the database. Every method raises Unavailable when it does not answer."""

    def __init__(self, database: Database, actor: Actor | None = None, lifetimes: TokenLifetimes = UNBOUNDED) -> None:
        """`actor`: who issues and revokes, for the audit; None: who sent the request that is handled, or the system."""
        self._database = database
        self._actor = actor
        self._lifetimes = lifetimes

    async def issue(
        self,
        kind: Kind,
        label: str = "",
        stations: Iterable[str] | None = None,
        subject: str | None = None,
        *,
        organisation: str | None = None,
        scopes: Iterable[Scope] | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[str, StoredToken]:
        """A new token, for these stations or all (None), of this organisation or any (None), with these of its role's
        scopes or all (None), and its entry in the list. The token cannot be shown again. `expires_at` None: as late as
        its kind may.

        Raises LifetimeTooLong, and ValueError where a driver's token has no valid subject, or another kind's has one,
        and where a device's has an organisation or the organisation is no name.
        """
        if organisation is not None and (kind == "device" or not valid_organisation(organisation)):
            raise ValueError(f"organisation {organisation!r} of a token of kind {kind}")
        if (kind == "driver") != (subject is not None) or not (subject is None or valid_subject(subject)):
            raise ValueError(f"subject {subject!r} of a token of kind {kind}")
        token = PREFIXES[kind] + secrets.token_urlsafe(32)
        bound = None if stations is None else sorted({station.upper() for station in stations})
        limited = None if scopes is None else sorted(set(scopes))
        async with self._database.transaction() as connection:
            now = await connection.fetchval("SELECT clock_timestamp()")
            expires_at = self._lifetimes.expiry(kind, now, expires_at)
            values = (uuid4(), kind, hash_of(token), label, bound, organisation, subject, limited, expires_at)
            row = await connection.fetchrow(_INSERT, *values)
            if row is None:
                raise AssertionError("INSERT … RETURNING gave no row")
            stored = _stored(*row)
            await record(
                connection, "token.issued", _entity(stored.token_id), after=_audited(stored), actor=self._actor
            )
        return token, stored

    async def rotate(
        self, token_id: UUID, overlap: timedelta, expires_at: datetime | None = None
    ) -> tuple[str, StoredToken] | None:
        """A new secret for the same token; the one that it replaces is valid for the overlap, and one before that no
        longer. `expires_at`: of the token from now on (None: as it was, but no later than its kind may). None where
        there is no valid token of this id. Raises LifetimeTooLong.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_TO_ROTATE, token_id)
            if row is None:
                return None
            kind, before, now = row
            if expires_at is None:
                ends = self._lifetimes.renewed(kind, now, before)
            else:
                ends = self._lifetimes.expiry(kind, now, expires_at)
            token = PREFIXES[kind] + secrets.token_urlsafe(32)
            values = (token_id, self._lifetimes.unused_max, hash_of(token), overlap, ends)
            row = await connection.fetchrow(_ROTATE, *values)
            if row is None:
                return None
            stored = _stored(*row)
            await record(connection, "token.rotated", _entity(token_id), after=_audited(stored), actor=self._actor)
        return token, stored

    async def revoke(self, token_id: UUID) -> bool:
        """Revoke a token for good. False where there is none of this id, or it is revoked already."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_REVOKE, token_id)
            if row is not None:
                before = _audited(_stored(*row))
                await record(connection, "token.revoked", _entity(token_id), before=before, actor=self._actor)
        return row is not None

    async def revoke_signed(
        self,
        *,
        jti: str | None = None,
        subject: str | None = None,
        issued_before: datetime | None = None,
        lifetime_max: timedelta | None = None,
    ) -> None:
        """Revoke a signed token by its id, or all of a subject that were issued before a moment.

        `lifetime_max`: the longest that a signed token lives (ClaimRules); then revocations go whose tokens have all
        expired: those issued by then, or before the moment. None: nobody knows, and all stay.
        """
        async with self._database.transaction() as connection:
            if lifetime_max is not None:
                await connection.execute(_FORGET_SIGNED, lifetime_max + _CLOCKS)
            await connection.execute(_REVOKE_SIGNED, jti, subject, issued_before)
            moment = None if issued_before is None else format_rfc3339(issued_before)
            entity = f"signed-token/{jti}" if jti is not None else f"signed-tokens-of/{subject}"
            await record(connection, "token.revoked", entity, after={"issued_before": moment}, actor=self._actor)

    async def list(self) -> list[StoredToken]:
        """All tokens, revoked ones too, oldest first."""
        rows = await self._database.fetch(_LIST)
        return [_stored(*row) for row in rows]

    async def find(self, token_hash: bytes) -> Principal | None:
        """The principal of the token with this hash; None where there is none, or it is revoked, expired or unused for
        too long."""
        row = await self._database.fetchrow(_FIND, token_hash, self._lifetimes.unused_max)
        if row is None:
            return None
        kind, token_id, stations, organisation, subject, scopes, expires_at = row
        return Principal(
            kind,
            token_id,
            None if stations is None else frozenset(stations),
            subject,
            None if scopes is None else frozenset(scopes),
            None if expires_at is None else expires_at.timestamp(),
            organisation,
        )

    async def sees(self, only: StationFilter, station_id: str) -> bool:
        """Whether the station passes the filter now."""
        return await sees(self._database, only, station_id)

    async def certificate_station(self, common_name: str) -> str | None:
        """The station whose client certificate has this common name; None: there is none."""
        row = await self._database.fetchrow(_CERTIFICATE_STATIONS, [common_name])
        return None if row is None else str(row["station_id"])

    def certificates_moved(self, stations: Mapping[str, str]) -> set[str]:
        """Those of these common names that are no longer of the station given with each. Blocks as `gone` does."""
        now = dict(self._database.fetch_blocking(_CERTIFICATE_STATIONS, list(stations)))
        return {name for name, station_id in stations.items() if now.get(name) != station_id}

    def gone(self, token_hashes: Iterable[bytes]) -> set[bytes]:
        """Those of `token_hashes` that are no longer valid. Blocks: it is for one thread besides the event loop's."""
        rows = self._database.fetch_blocking(_GONE, list(token_hashes), self._lifetimes.unused_max)
        return {bytes(gone) for (gone,) in rows}

    def signed_revocations(self, known: SignedRevocations) -> SignedRevocations:
        """Those of signed tokens: `known` where they are the same. Blocks as `gone` does."""
        rows = self._database.fetch_blocking(_REVOCATIONS, known.fingerprint)
        return SignedRevocations.of((row[1:] for row in rows), rows[0][0]) if rows else known

    async def record_use(self, token_ids: Iterable[UUID]) -> None:
        """These tokens have been used about now."""
        await self._database.execute(_USED, list(token_ids))


def _entity(token_id: UUID) -> str:
    return f"token/{token_id}"


def _audited(token: StoredToken) -> dict[str, Any]:
    """What the audit says of a token."""
    bound, scopes = token.stations, token.scopes
    return {
        "kind": token.kind,
        "label": token.label,
        "stations": None if bound is None else list(bound),
        "organisation": token.organisation,
        "subject": token.subject,
        "scopes": None if scopes is None else list(scopes),
        "expires_at": None if token.expires_at is None else format_rfc3339(token.expires_at),
    }


def _stored(
    token_id: UUID,
    kind: Kind,
    label: str,
    stations: list[str] | None,
    organisation: str | None,
    subject: str | None,
    scopes: Any,
    *moments: Any,
) -> StoredToken:
    bound = None if stations is None else tuple(stations)
    limited = None if scopes is None else tuple(scopes)
    return StoredToken(token_id, kind, label, bound, organisation, subject, limited, *moments)
