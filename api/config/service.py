"""Settings and flags: what is in force, changing it, the history. No HTTP and no SQL here."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from api.config.events import config_updated
from api.config.models import (
    ConfigChange,
    ConfigHistory,
    HistoryEntry,
    NewRule,
    NewValue,
    Setting,
    SettingList,
    StationsTouched,
)
from api.config.store import SCHEMA, ChangeCursor, ConfigStore, Document, StoredChange, current, record, stations
from kit.audit import recording as audit
from kit.auth.token_store import Principal
from kit.clock import Clock, from_ms
from kit.config.adjustable import Adjustable
from kit.config.flags import FlagSubject
from kit.config.runtime import RuntimeConfig
from kit.config.values import Resolved, rule_of
from kit.messaging.outbox import Transaction, insert_async
from kit.web.errors import BadQuery, Conflict, NotFound
from kit.web.paging import decode_cursor, encode_cursor

STATIONS_MAX: Final = 100_000  # of a dry run: ~0.3 s
STATIONS_SHOWN: Final = 20


class ConfigService:
    """The use cases, one method each. What is in a file is known as this process sees it."""

    def __init__(self, store: ConfigStore, config: RuntimeConfig, clock: Clock) -> None:
        self._store = store
        self._config = config
        self._clock = clock

    async def settings(self, reader: Principal, *, flags_only: bool = False) -> SettingList:
        """All that the reader may see."""
        snapshot, changed = await self._store.snapshot(), await self._store.settings()
        resolved = self._config.would_be(snapshot)
        shown = [
            self._setting(one, resolved[one.name], changed.get(one.name))
            for one in self._visible(reader)
            if one.is_flag or not flags_only
        ]
        return SettingList(revision=snapshot.revision, settings=shown)

    async def setting(self, name: str, reader: Principal) -> Setting:
        """One of them. Raises NotFound."""
        one = self._known(name, reader)
        snapshot, changed = await self._store.snapshot(), await self._store.settings()
        return self._setting(one, self._config.would_be(snapshot)[name], changed.get(name))

    async def set_value(
        self, connection: Transaction, new: NewValue, operator: Principal, *, dry_run: bool
    ) -> ConfigChange:
        """Set a value, in the open transaction. Raises NotFound, BadQuery, Conflict."""
        one = self._known(new.name, operator)
        if one.is_flag:
            raise BadQuery(f"{one.name} is a flag: set its rule with POST /api/v1/config/flags")
        try:
            document = {"value": one.from_json(new.value)}
        except ValueError as error:
            raise BadQuery(str(error)) from None
        return await self._change(connection, one, document, new.version, new.reason, operator, dry_run=dry_run)

    async def set_rule(
        self, connection: Transaction, new: NewRule, operator: Principal, *, dry_run: bool
    ) -> ConfigChange:
        """Set a flag's rule, in the open transaction. Raises NotFound, BadQuery, Conflict."""
        one = self._known(new.name, operator)
        if not one.is_flag:
            raise BadQuery(f"{one.name} is no flag: set its value with POST /api/v1/config")
        document = {"rule": new.rule.model_dump(mode="json")}
        return await self._change(connection, one, document, new.version, new.reason, operator, dry_run=dry_run)

    async def reset(
        self, connection: Transaction, name: str, version: int, reason: str, operator: Principal, *, dry_run: bool
    ) -> ConfigChange:
        """Back to the file's value or the default, in the open transaction. Raises NotFound, BadQuery, Conflict."""
        one = self._known(name, operator)
        return await self._change(connection, one, None, version, reason, operator, dry_run=dry_run)

    async def history(
        self, name: str | None, reader: Principal, limit: int, cursor: str | None
    ) -> tuple[ConfigHistory, str | None]:
        """A page of changes, newest first, and the next page's cursor. Raises NotFound, BadQuery."""
        names = [one.name for one in self._visible(reader)] if name is None else [self._known(name, reader).name]
        after = decode_cursor(cursor, ChangeCursor) if cursor else None
        rows = await self._store.changes(names, after, limit + 1)
        page = [_entry(row) for row in rows[:limit]]
        following = encode_cursor(ChangeCursor(page[-1].revision)) if len(rows) > limit else None
        return ConfigHistory(changes=page, next=None), following

    async def _change(
        self,
        connection: Transaction,
        one: Adjustable,
        document: Document | None,
        version: int,
        reason: str,
        operator: Principal,
        *,
        dry_run: bool,
    ) -> ConfigChange:
        snapshot, last_changes = await current(connection, lock=not dry_run)
        last = last_changes.get(one.name)
        _check_version(one.name, version, 0 if last is None else last["version"])
        changed = StoredChange(
            revision=snapshot.revision + 1,
            name=one.name,
            version=version + 1,
            before=_without_version(snapshot.documents.get(one.name)),
            after=document,
            changed_at=from_ms(self._clock.now_ms()),
            changed_by=operator.name,
            reason=reason,
        )
        repeated = changed.after == changed.before  # nothing to record: nobody's version shall go stale for it
        after = None if document is None else {**document, "version": changed.version}
        old = self._config.would_be(snapshot)
        new = self._config.would_be(snapshot.with_change(one.name, after))
        try:
            self._config.check(one.name, new)
        except ValueError as error:
            raise BadQuery(f"{one.name} does not fit the others: {error}") from None
        if not dry_run and not repeated:
            await record(connection, changed)
            what = "flag" if one.is_flag else "setting"
            await audit.record(
                connection,
                f"{what}.changed",
                f"{what}/{one.name}",
                before=changed.before,
                after=changed.after,
                reason=reason,
            )
            await insert_async(connection, SCHEMA, [config_updated(changed)])
        touched: StationsTouched | None = None
        if dry_run and one.is_flag:
            registered = await stations(connection, STATIONS_MAX)
            touched = await asyncio.to_thread(_stations_touched, one, old[one.name], new[one.name], registered)
        return ConfigChange(
            dry_run=dry_run,
            changes=(old[one.name].value, old[one.name].rule) != (new[one.name].value, new[one.name].rule),
            before=self._setting(one, old[one.name], last),
            after=self._setting(one, new[one.name], last if repeated else _facts(changed)),
            touches=list(self._config.used_by(one.name)),
            stations=touched,
        )

    def _visible(self, reader: Principal) -> Sequence[Adjustable]:
        everything = sorted(self._config.adjustables.values(), key=lambda one: one.name)
        return [one for one in everything if reader.may("config:read_all") or one.for_finance]

    def _known(self, name: str, reader: Principal) -> Adjustable:
        """Raises NotFound, also for what the reader may not see."""
        try:
            one = self._config.adjustable(name)
        except KeyError as error:
            raise NotFound(str(error.args[0])) from None
        if one not in self._visible(reader):
            raise NotFound(f"there is no setting {name}")
        return one

    def _setting(self, one: Adjustable, resolved: Resolved, last: Mapping[str, Any] | None) -> Setting:
        used_by = self._config.used_by(one.name)
        facts = dict(last) if last is not None else {"version": 0}
        facts.pop("name", None)
        return Setting(
            name=one.name,
            kind="flag" if one.is_flag else "value",
            type=one.type,
            unit=one.unit,
            bounds=dict(one.bounds),
            default=one.default,
            value=resolved.value,
            rule=resolved.rule,
            source=resolved.source,
            owner=next(iter(used_by), ""),
            used_by=list(used_by),
            description=one.description,
            **facts,
        )


def _stations_touched(one: Adjustable, old: Resolved, new: Resolved, stations: Sequence[str]) -> StationsTouched:
    rule, names = rule_of(new), [station.upper() for station in stations]
    touched = rule.changed_for(one.name, rule_of(old), names)
    on = sum(rule.decide(one.name, FlagSubject(station_id=station))[0] for station in touched)
    return StationsTouched(
        looked_at=len(names), turned_on=on, turned_off=len(touched) - on, examples=touched[:STATIONS_SHOWN]
    )


def _check_version(name: str, given: int, current: int) -> None:
    if given != current:
        raise Conflict(
            f"{name} is at version {current}, not {given}: read it with GET /api/v1/config/{name} and decide anew"
        )


def _facts(change: StoredChange) -> Mapping[str, Any]:
    """Of a setting's last change."""
    return {name: getattr(change, name) for name in ("version", "changed_at", "changed_by", "reason")}


def _without_version(document: Document | None) -> Document | None:
    return None if document is None else {key: value for key, value in document.items() if key != "version"}


def _entry(row: StoredChange) -> HistoryEntry:
    return HistoryEntry(
        revision=row.revision,
        name=row.name,
        version=row.version,
        before=None if row.before is None else dict(row.before),
        after=None if row.after is None else dict(row.after),
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        reason=row.reason,
    )
