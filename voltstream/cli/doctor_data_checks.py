"""Checks of the platform's data, for `voltstream doctor`: tables, partitions, data folder; and all checks together."""

import asyncio
import os
from itertools import islice
from pathlib import Path
from typing import Any, Final

from psycopg import Connection, Error
from psycopg.errors import UndefinedTable

from billing.settings import BillingSettings, seller_of
from kit.auth.signed_tokens import SignedTokens
from kit.clock import Clock
from kit.config.folder import ConfigFolder
from kit.config.runtime import RuntimeConfig
from kit.config.values import EMPTY, ConfigSnapshot, Resolved
from kit.database.embedded import fault_of, running_url
from kit.database.postgres import connect_sync, outages
from kit.errors import ConfigError, KitError, Unavailable
from kit.lake.folder import LakeFolder
from kit.log.kafka import partitions_of
from kit.masking import mask_secrets
from kit.messaging.dead_letters import waiting_by_queue
from kit.settings import Settings, group_of
from schemas.frame_rows import WHOLE_FRAMES
from schemas.settings import Retention
from schemas.topics import READINGS_TOPIC
from streams.storage.schema import check_partitions, stored_partitions
from voltstream.cli.doctor_server_checks import Check, run_server_checks
from voltstream.runtime.database import statuses

_QUEUES_SHOWN: Final = 5
_MIGRATE: Final = "run `voltstream migrate`"


async def run_all_checks(settings: Settings, clock: Clock) -> list[Check]:
    """Everything these settings depend on, what is wrong with it and how to fix that. Raises nothing."""
    checks = await run_server_checks(settings, clock)
    well = {check.name for check in checks if check.ok}
    if settings.jwt_key_file or settings.jwt_jwks_url or settings.jwt_discovery:
        checks.append(await _signed_tokens(settings, clock))
    checks.append(_seller(group_of(settings, BillingSettings)))
    url = settings.database_url or running_url(settings.data_dir)
    if not settings.database_url:
        checks.append(await asyncio.to_thread(_data_dir, settings, url is not None))
    checks.append(await asyncio.to_thread(_config, settings, url if "postgresql" in well else None))
    if url and "postgresql" in well:
        checks.append(await asyncio.to_thread(_lake, url, group_of(settings, Retention)))
        wanted = "partitions" in settings.model_fields_set or settings.distributed_log
        checks += await asyncio.to_thread(_tables, url, settings.partitions if wanted else None)
    if "kafka" in well:
        checks.append(await _topic(settings))
    return checks


async def _signed_tokens(settings: Settings, clock: Clock) -> Check:
    try:
        signed = SignedTokens.of(settings, clock)
        if signed is None:
            raise AssertionError("this is for settings that name keys")
        return Check("signed tokens", True, f"accepted when signed with {await signed.keys.describe()}")
    except (ConfigError, Unavailable) as error:
        mend = "set VOLTSTREAM_JWT_KEY_FILE to a file that holds such a key"
        if not settings.jwt_key_file:
            mend = "set VOLTSTREAM_JWT_JWKS_URL or VOLTSTREAM_JWT_ISSUER to what the identity provider says"
        return Check("signed tokens", False, str(error), mend)


def _seller(settings: BillingSettings) -> Check:
    """Whether documents name who sells. Without, they are issued all the same unless the operator forbids it."""
    missing = seller_of(settings).missing
    if not missing:
        return Check("seller", True, f"documents name {settings.seller_name}")
    unset = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
    if settings.seller_required:
        return Check("seller", False, f"{unset}: billing does not start", "set them: documents must name who sells")
    detail = f"{unset}: documents do not name their seller as the law wants; VOLTSTREAM_SELLER_REQUIRED refuses that"
    return Check("seller", True, detail)


def _config(settings: Settings, url: str | None) -> Check:
    """What operators have set otherwise than by default, and where; `url`: of a database that answers."""
    config = RuntimeConfig(settings)
    files = ConfigFolder(Path(settings.config_dir), config.adjustables) if settings.config_dir else None
    config.apply_folder((files.look() if files else None) or {})
    known = "the config service was not asked: its database does not answer"
    try:
        if url:
            config.apply_snapshot(_snapshot(url))
            known = f"revision {config.snapshot.revision}"
    except (KitError, Error):
        known = "the config service was not asked: see the check of migrations"
    finally:
        config.close()
    resolved = {name: config.resolved(name) for name in sorted(config.adjustables)}
    changed = [f"{name} = {_value(one)} ({one.source})" for name, one in resolved.items() if one.source != "default"]
    detail = "; ".join([known, *(changed or ["all by default"])])
    if files is None or not files.faults:
        return Check("config", True, detail)
    faults = "; ".join(f"{name}: {fault}" for name, fault in files.faults.items())
    return Check(
        "config", False, f"{faults}; {detail}", f"mend the files of VOLTSTREAM_CONFIG_DIR={settings.config_dir}"
    )


def _value(resolved: Resolved) -> str:
    rule = resolved.rule
    if rule is None or not rule.enabled:
        return str(resolved.value).lower()
    named = "" if rule.targets.empty and rule.excepted.empty else ", with exceptions"
    return f"{rule.percentage.normalize():f} % of stations{named}"


def _snapshot(url: str) -> ConfigSnapshot:
    with connect_sync(url, name="voltstream doctor", autocommit=True) as connection, outages():
        row = connection.execute("SELECT revision, settings FROM config.snapshot").fetchone()
    return ConfigSnapshot(*row) if row else EMPTY


def _data_dir(settings: Settings, running: bool) -> Check:
    folder = settings.data_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fix = "set VOLTSTREAM_DATA_DIR to a folder that this account may write to"
        return Check("data folder", False, f"{there} cannot be written to", fix)
    if fault := fault_of(folder):
        return Check("data folder", False, f"{folder}: {fault}", "set VOLTSTREAM_DATA_DIR to such a path")
    state = "its database runs" if running else "its database starts with `voltstream up`"
    return Check("data folder", True, f"{settings.data_dir}: {state}")


def _lake(url: str, settings: Retention) -> Check:
    """Whether the lake answers, and how the last move went."""
    try:
        with connect_sync(url, name="voltstream doctor", autocommit=True) as connection, outages():
            row = connection.execute(
                "SELECT fault, (SELECT count(*) FROM telemetry.lake_file) FROM telemetry.lake_status"
            ).fetchone()
    except UndefinedTable:
        return Check("lake", True, "not asked: see the check of migrations")
    except (KitError, Error) as error:
        return Check("lake", False, mask_secrets(str(error).strip()), "see the check of postgresql")
    fault, files = row or (None, 0)
    if not settings.lake_url and files:
        fix = "set VOLTSTREAM_LAKE_URL to where they are"
        return Check("lake", False, f"{files:,} files have readings, and no process knows where the lake is", fix)
    if not settings.lake_url:
        return Check("lake", True, "none: raw readings stay in the database")
    try:
        LakeFolder.at(settings.lake_url).check()
    except KitError as error:
        return Check("lake", False, str(error), "mend it, or set VOLTSTREAM_LAKE_URL; nothing is lost meanwhile")
    if fault:
        return Check("lake", False, f"the last move failed: {fault}", "run `voltstream lake move` once it is mended")
    return Check("lake", True, f"{files:,} files, readings go there after {settings.lake_after_days} days")


def _tables(url: str, partitions: int | None) -> list[Check]:
    try:
        missing = [migration.id for migration in statuses(url) if not migration.applied]
        if missing:
            return [Check("migrations", False, f"not applied: {', '.join(missing)}", _MIGRATE)]
        checks = [Check("migrations", True, "all applied")]
        with connect_sync(url, name="voltstream doctor", autocommit=True) as connection, outages():
            stored = stored_partitions(connection)
            checks += [_unprocessed_frames(connection), _charges(connection), _dead_letters(connection)]
    except KitError as error:
        return [Check("migrations", False, mask_secrets(str(error)), _MIGRATE)]
    try:
        check_partitions(stored, partitions or stored)
    except ConfigError as error:
        return [*checks, Check("partitions", False, str(error), f"set VOLTSTREAM_PARTITIONS={stored}")]
    return [*checks, Check("partitions", True, str(stored))]


def _unprocessed_frames(connection: Connection[tuple[Any, ...]]) -> Check:
    """Frames that were acknowledged and could not be processed."""
    waiting = "SELECT count(*) FROM telemetry.quarantine WHERE reason = ANY(%s) AND replayed_at IS NULL"
    row = connection.execute(waiting, (list(WHOLE_FRAMES),)).fetchone()
    frames = row[0] if row else 0
    if not frames:
        return Check("frames", True, "all were processed")
    detail = (
        f"{frames} are unprocessed in telemetry.quarantine ({', '.join(WHOLE_FRAMES)}): their readings count nowhere"
    )
    fix = "look for frame_quarantined in the workers' logs; once its fault is mended: `voltstream quarantine replay`"
    return Check("frames", False, detail, fix)


def _charges(connection: Connection[tuple[Any, ...]]) -> Check:
    """Charges that are not invoiced until somebody reviews them."""
    row = connection.execute(
        "SELECT count(*) FROM billing.cdr WHERE current AND status IN ('held', 'drift', 'review')"
    ).fetchone()
    odd = row[0] if row else 0
    if not odd:
        return Check("charges", True, "none waits for review")
    return Check("charges", False, f"{odd} wait for a person, and are not invoiced", "see GET /api/v1/billing/charges")


def _dead_letters(connection: Connection[tuple[Any, ...]]) -> Check:
    """Events that a consumer gave up, or whose queue was full for long: that of a service that does not run."""
    waiting = waiting_by_queue(connection)
    if not waiting:
        return Check("dead letters", True, "none waits")
    shown = [f"{queue}: {count}" for queue, count in islice(waiting.items(), _QUEUES_SHOWN)]
    more = f", and {len(waiting) - _QUEUES_SHOWN} queues more" if len(waiting) > _QUEUES_SHOWN else ""
    fix = "see `voltstream events dlq list`; mend or start the consumer, then `voltstream events dlq replay --queue …`"
    return Check("dead letters", False, f"events that were not handled wait: {', '.join(shown)}{more}", fix)


async def _topic(settings: Settings) -> Check:
    try:
        found = await partitions_of(settings.kafka_url, READINGS_TOPIC)
    except KitError as error:
        return Check("topic", False, str(error), "see the check of kafka")
    if found not in (0, settings.partitions):
        fix = f"set VOLTSTREAM_PARTITIONS={found}, or name another Kafka: a topic's partitions are fixed for ever"
        return Check("topic", False, f"{READINGS_TOPIC} has {found} partitions", fix)
    return Check("topic", True, f"{READINGS_TOPIC}: {f'{found} partitions' if found else 'made by the first bridge'}")
