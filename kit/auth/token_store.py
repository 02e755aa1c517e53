"""Stored access tokens: issue, revoke, list, find. The SQL of schema `access` is here.

A token is `vsd_` (device), `vso_` (operator), `vsf_` (finance) or `vsu_` (driver) and 256 random bits; it is shown
once, when issued, and stored hashed.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID, uuid4

from kit.audit.entry import Actor
from kit.audit.recording import record
from kit.database.postgres import Database

Kind = Literal["device", "operator", "finance", "driver"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SUBJECT_CHARS_MAX: Final = 64

_PREFIXES: Final[dict[Kind, str]] = {"device": "vsd_", "operator": "vso_", "finance": "vsf_", "driver": "vsu_"}
_TOKEN: Final = re.compile(r"vs[dofu]_[A-Za-z0-9_-]{43}", re.ASCII)  # 43 base64url characters hold 256 bits
_COLUMNS: Final = "id, kind, label, stations, subject, created_at, revoked_at"
_INSERT: Final = f"""INSERT INTO access.token (id, kind, hash, label, stations, subject)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_COLUMNS}"""  # noqa: S608  # the names above
_REVOKED: Final = """SELECT asked.id FROM unnest($1::uuid[]) AS asked (id)
WHERE NOT EXISTS (SELECT FROM access.token AS token WHERE token.id = asked.id AND token.revoked_at IS NULL)"""
_REVOKE: Final = """UPDATE access.token SET revoked_at = clock_timestamp()
WHERE id = $1 AND revoked_at IS NULL RETURNING kind, label, stations, subject"""
_LIST: Final = f"SELECT {_COLUMNS} FROM access.token ORDER BY created_at, id"  # noqa: S608  # our own names


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity that a verified token stands for."""

    kind: Kind
    token_id: UUID
    stations: frozenset[str] | None  # upper case; None: all
    subject: str | None = None  # a driver's id, or the subject of a signed token; None: a stored token of another kind

    def covers(self, station_id: str) -> bool:
        """Whether the token may be used for this station: it is bound to it, or to none."""
        return self.stations is None or station_id.upper() in self.stations

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
    subject: str | None
    created_at: datetime
    revoked_at: datetime | None


def well_formed(token: str) -> bool:
    """Whether the text has the form of a stored token."""
    return _TOKEN.fullmatch(token) is not None


def valid_subject(subject: str) -> bool:
    """Whether this can name a driver: 1 to 64 printable characters, no space at either end."""
    return 0 < len(subject) <= SUBJECT_CHARS_MAX and subject.isprintable() and subject == subject.strip()


def hash_of(token: str) -> bytes:
    """What is stored of a token: its SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


class TokenStore:
    """The tokens in the database. Every method raises Unavailable when it does not answer."""

    def __init__(self, database: Database, actor: Actor | None = None) -> None:
        """`actor`: who issues and revokes, for the audit; None: who sent the request that is handled, or the system."""
        self._database = database
        self._actor = actor

    async def issue(
        self, kind: Kind, label: str = "", stations: Iterable[str] | None = None, subject: str | None = None
    ) -> tuple[str, StoredToken]:
        """A new token, for these stations or all (None), and its entry in the list. The token cannot be shown again.

        Raises ValueError where a driver's token has no valid subject, or another kind's has one.
        """
        if (kind == "driver") != (subject is not None) or not (subject is None or valid_subject(subject)):
            raise ValueError(f"subject {subject!r} of a token of kind {kind}")
        token = _PREFIXES[kind] + secrets.token_urlsafe(32)
        bound = None if stations is None else sorted({station.upper() for station in stations})
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_INSERT, uuid4(), kind, hash_of(token), label, bound, subject)
            if row is None:
                raise AssertionError("INSERT … RETURNING gave no row")
            stored = _stored(*row)
            after = {"kind": kind, "label": label, "stations": bound, "subject": subject}
            await record(connection, "token.issued", _entity(stored.token_id), after=after, actor=self._actor)
        return token, stored

    async def revoke(self, token_id: UUID) -> bool:
        """Revoke a token for good. False where there is none of this id, or it is revoked already."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_REVOKE, token_id)
            if row is not None:
                kind, label, stations, subject = row
                before = {"kind": kind, "label": label, "stations": stations, "subject": subject}
                await record(connection, "token.revoked", _entity(token_id), before=before, actor=self._actor)
        return row is not None

    async def list(self) -> list[StoredToken]:
        """All tokens, revoked ones too, oldest first."""
        rows = await self._database.fetch(_LIST)
        return [_stored(*row) for row in rows]

    async def find(self, token_hash: bytes) -> Principal | None:
        """The principal of the token with this hash; None where there is none, or it is revoked."""
        row = await self._database.fetchrow(
            "SELECT kind, id, stations, subject FROM access.token WHERE hash = $1 AND revoked_at IS NULL", token_hash
        )
        if row is None:
            return None
        kind, token_id, stations, subject = row
        return Principal(kind, token_id, None if stations is None else frozenset(stations), subject)

    def revoked(self, token_ids: Iterable[UUID]) -> set[UUID]:
        """Those of `token_ids` that are no longer valid. Blocks: it is for one thread besides the event loop's."""
        return {token_id for (token_id,) in self._database.fetch_blocking(_REVOKED, list(token_ids))}


def _entity(token_id: UUID) -> str:
    return f"token/{token_id}"


def _stored(
    token_id: UUID,
    kind: Kind,
    label: str,
    stations: list[str] | None,
    subject: str | None,
    created_at: datetime,
    revoked_at: datetime | None,
) -> StoredToken:
    bound = None if stations is None else tuple(stations)
    return StoredToken(token_id, kind, label, bound, subject, created_at, revoked_at)
