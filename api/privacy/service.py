"""Exporting and erasing what all services hold of a driver. No HTTP and no SQL here."""

import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from typing import Final
from uuid import uuid4

import msgspec

from api.privacy import store
from api.privacy.errors import StillOpen
from api.privacy.models import ErasedKind, Erasure, KeptKind
from kit.audit.recording import record
from kit.clock import Clock, format_rfc3339
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.personal_data import PSEUDONYM_PREFIX, PersonalData

CHUNK_BYTES: Final = 65_536  # of an export, at least, but for the last

Declared = Mapping[str, tuple[PersonalData, ...]]  # by service


class PrivacyService:
    """The use cases, one method each. `schemas`: of the services that hold data of drivers, by service; billing's last,
    because nobody writes documents from then on until it is done."""

    def __init__(
        self, database: Database, schemas: Mapping[str, str], declared: Declared, config: RuntimeConfig, clock: Clock
    ) -> None:
        self._database = database
        self._schemas = schemas
        self._kinds = {(service, one.kind): one for service in schemas for one in declared[service]}
        self._config = config
        self._clock = clock
        self._key: bytes | None = None

    async def export(self, subject: str) -> AsyncIterator[bytes]:
        """The JSON document of all that is held, in chunks, as of one moment. That somebody asked is in the audit
        before the first of them. Raises Unavailable."""
        entity = _entity(await self._hash(subject))
        async with self._database.transaction() as connection:
            await record(connection, "privacy.exported", entity)
        async with self._database.snapshot(download=True) as connection:
            head = {"subject": subject, "exported_at": format_rfc3339(self._clock.now())}
            chunk = msgspec.json.encode(head)[:-1] + b',"data":['
            async for part in self._parts(connection, subject):
                chunk += part
                if len(chunk) >= CHUNK_BYTES:
                    yield chunk
                    chunk = b""
            yield chunk + b"]}"

    async def _parts(self, connection: Transaction, subject: str) -> AsyncIterator[bytes]:
        """Each record, within the object of its service and kind."""
        current: tuple[str, str] | None = None
        for service, schema in self._schemas.items():
            async for kind, document in store.records(connection, schema, subject):
                separator = b","
                if (service, kind) != current:
                    about = {"service": service, "kind": kind, "summary": self._kinds[service, kind].summary}
                    separator = (b"" if current is None else b"]},") + msgspec.json.encode(about)[:-1] + b',"records":['
                    current = service, kind
                yield separator + document.encode()
        if current is not None:
            yield b"]}"

    async def erase(self, subject: str) -> Erasure:
        """Erase the subject in all services, in one transaction, with its entry in the audit; what was erased and what
        stays. Raises StillOpen where something is open, Unavailable."""
        subject_hash, now = await self._hash(subject), self._clock.now()
        async with self._database.transaction() as connection:
            await store.lock(connection, subject_hash)
            matters = [
                matter
                for schema in self._schemas.values()
                for matter in await store.open_matters(connection, schema, subject, now)
            ]
            if matters:
                raise StillOpen(matters)
            erased, kept = await self._erase_all(connection, subject)
            known = await store.known_erasure(connection, subject_hash)
            if erased or known is None:
                known = now, erased
                await store.put_erasure(connection, subject_hash, now, erased)
            erasure = self._erasure(subject, *known, kept)
            done = {"erased": erased, "kept": {one.kind: one.until for one in erasure.kept}}
            await record(connection, "privacy.erased", _entity(subject_hash), after=done)
        return erasure

    async def _erase_all(self, connection: Transaction, subject: str) -> tuple[dict[str, int], dict[str, date | None]]:
        """How many records of each kind were erased, and until when those of a kind stay."""
        pseudonym = f"{PSEUDONYM_PREFIX}{uuid4()}"
        erased, kept = Counter[str](), dict[str, date | None]()
        for service, schema in self._schemas.items():
            for one in await store.erase(connection, schema, subject, pseudonym):
                erased[one.kind] += one.records
                if one.newest_kept is not None:
                    kept[one.kind] = self._until(self._kinds[service, one.kind], one.newest_kept)
        return {kind: records for kind, records in erased.items() if records}, kept

    def _until(self, kind: PersonalData, newest: datetime) -> date | None:
        if not kind.retention_unit:
            return None
        return kind.kept_until(newest, int(self._config.resolved(kind.retention).value))

    def _erasure(
        self, subject: str, erased_at: datetime, erased: Mapping[str, int], kept: Mapping[str, date | None]
    ) -> Erasure:
        about = {kind: one for (_, kind), one in self._kinds.items()}
        return Erasure(
            subject=subject,
            erased_at=erased_at,
            erased=[
                ErasedKind(kind=kind, summary=one.summary, records=erased[kind])
                for kind, one in about.items()
                if kind in erased
            ],
            kept=[
                KeptKind(kind=kind, summary=one.summary, reason=one.stays, until=kept[kind])
                for kind, one in about.items()
                if kind in kept
            ],
        )

    async def _hash(self, subject: str) -> bytes:
        if self._key is None:
            self._key = await store.hashing_key(self._database)
        return hmac.digest(self._key, subject.encode(), hashlib.sha256)


def _entity(subject_hash: bytes) -> str:
    """How the audit names the subject."""
    return f"person/{subject_hash.hex()}"
