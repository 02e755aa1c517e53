"""Chargers' credentials: set, shown without the password, taken away. No HTTP and no SQL here.

Whoever takes chargers' connections asks `stations.charger_credentials` and compares with `kit.auth.passwords.matches`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from api.stations.credentials import store
from api.stations.credentials.models import Credentials, NewCredentials
from api.stations.credentials.store import CredentialStore
from api.stations.registry.service import no_station
from kit.audit.recording import record
from kit.auth.passwords import hashed
from kit.auth.token_store import Principal
from kit.clock import Clock, from_ms
from kit.web.errors import NotFound


class CredentialService:
    """The use cases, one method each."""

    def __init__(self, store: CredentialStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def put(self, station_id: str, new: NewCredentials, operator: Principal) -> Credentials:
        """Set them, in place of whatever there was. Raises NotFound, Conflict."""
        password_hash = None
        if new.password is not None:
            password_hash = await asyncio.to_thread(hashed, new.password.get_secret_value())
        now = from_ms(self._clock.now_ms())
        async with self._store.database.transaction() as connection:
            before = await store.lock(connection, station_id)
            given = (password_hash, new.certificate_subject, now, operator.name)
            if not await store.put(connection, station_id, *given):
                raise no_station(station_id)
            after = await store.lock(connection, station_id)
            if after is None:
                raise AssertionError("the credentials were put in this transaction")
            await record(
                connection, "credentials.set", _entity(station_id), before=_audited(before), after=_audited(after)
            )
        return Credentials(**dict(after))

    async def credentials(self, station_id: str) -> Credentials:
        """Which ones the charger has. Raises NotFound."""
        row = await self._store.credentials(station_id)
        if row is None:
            raise _none(station_id)
        return Credentials(**dict(row))

    async def delete(self, station_id: str) -> None:
        """Take them away. Raises NotFound."""
        async with self._store.database.transaction() as connection:
            before = await store.lock(connection, station_id)
            if before is None:
                raise _none(station_id)
            await store.delete(connection, station_id)
            await record(connection, "credentials.removed", _entity(station_id), before=_audited(before))


def _entity(station_id: str) -> str:
    return f"credentials/{station_id}"


def _audited(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Not the password, and not its hash."""
    return None if row is None else {name: row[name] for name in ("has_password", "certificate_subject")}


def _none(station_id: str) -> NotFound:
    return NotFound(f"no credentials of {station_id}: set them with PUT /api/v1/stations/{station_id}/credentials")
