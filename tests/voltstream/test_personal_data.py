"""No column is forgotten: each that may hold text is declared as personal data, or stands here with why it is none."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import psycopg
import pytest

from api.privacy.components import SCHEMAS
from kit.config.adjustable import adjustables_of
from kit.personal_data import in_standard_tables
from schemas import events
from tests.private_servers import PrivateServers, fresh_database
from voltstream.runtime.database import bring_up_to_date
from voltstream.services import all_services, personal_data, service
from voltstream.settings import settings_type

# schema.table: columns, by why they hold nothing of drivers. A new column stands nowhere, and fails.
NOT_PERSONAL: Final[dict[str, dict[str, str]]] = {
    "codes, numbers and names of ours": {
        "access.token": "kind scopes",
        "audit.batch": "source",
        "audit.entry": "action role token method endpoint",
        "audit.telemetry_minute": "source",
        "billing.cdr": "kind status end_reason time_zone currency reasons consumption lines computed",
        "billing.charge_decision": "decision status_before reasons_before",
        "billing.collected_charge": "currency lines",
        "billing.customer": "billing time_zone",
        "billing.invoice": "kind number status currency rounding",
        "billing.invoice_line": "dimension",
        "billing.payment": "kind provider status currency",
        "billing.statement": "currency",
        "config.change": "name before after",
        "config.setting": "name document",
        "events.dead_letter": "queue event_id exchange routing_key",
        "notifications.alarm": "place cause",
        "notifications.delivery": "channel state",
        "notifications.notification": "kind category",
        "notifications.template": "kind channel language title body html error",
        "privacy.erasure": "erased",
        "reporting.co2_factor": "country",
        "reporting.co2_version": "source fallback_name",
        "reporting.day": "currency",
        "reporting.document": "collection key document",
        "reporting.exclusion": "reason",
        "reporting.hour": "currency",
        "reporting.report": "kind state selection formats reason tables",
        "reporting.series": "kind name",
        "reservations.claim": "kind",
        "reservations.reservation": "state reason",
        "reservations.waiting": "standard state",
        "telemetry.lake_file": "path kind",
        "telemetry.lake_status": "fault",
        "telemetry.ledger_source": "source",
        "telemetry.storage": "layout",
        "telemetry.window_retained": "width",
    },
    "stations, tariffs and how they work": {
        "access.token": "stations organisation",
        "billing.cdr": "station_id",
        "billing.invoice": "station_id",
        "billing.tariff_version": "tariff",
        "notifications.connector_status": "station_id",
        "notifications.session": "started completed",
        "notifications.station": "station_id site name",
        "pricing.booking": "station_id",
        "pricing.connector_activity": "station_id",
        "pricing.demand_rule": "target_kind target rule",
        "pricing.station_group": "station_id group_name organisation",
        "pricing.version": "target_kind target time_zone currency tariff reason",
        "reporting.co2_stale": "station_id",
        "reporting.connector": "station_id",
        "reporting.dirty_hour": "station_id",
        "reporting.exclusion": "station_id",
        "reporting.registration": "station_id",
        "reporting.station": "station_id site group organisation plugs",
        "reporting.station_country": "station_id country",
        "reporting.subject": "station_id",
        "reservations.place": "station_id bay standard restrictions status",
        "reservations.reservation": "station_id bay moved_from",
        "reservations.session": "station_id",
        "reservations.station": "station_id site",
        "reservations.stay": "station_id",
        "reservations.waiting": "site",
        "sessions.request": "station_id",
        "sessions.session": "station_id",
        "stations.change": "station_id kind before after",
        "stations.connector": "station_id standard format power_type evse_id tariff_ids",
        "stations.connector_recent": "station_id changes",
        "stations.connector_state": "station_id error_code",
        "stations.credential": "station_id password_hash certificate_subject",
        "stations.place": "station_id words group",
        "stations.price": "target_kind target currency",
        "stations.price_target": "target_kind target",
        "stations.received": "station_id",
        "stations.reservation": "station_id bay",
        "stations.station": "station_id name address city postal_code country time_zone site group organisation "
        "details",
        "stations.tariff": "target_kind target time_zone tariff",
        "telemetry.bay_interval": "bay",
        "telemetry.connector": "station_id",
        "telemetry.quarantine": "station_id reason",
        "telemetry.silence": "station_id",
        "telemetry.status_interval": "error_code vendor_error_code",
        "telemetry.session": "currency consumption",
    },
    "ids of things and of requests: whose they are stands in a column that is declared": {
        "access.signed_token_revocation": "jti",
        "audit.entry": "correlation_id",
        "billing.cdr": "reservation_id device_session_id correlation_id traceparent",
        "billing.invoice": "reservation_id",
        "billing.session_driver": "reservation_id",
        "pricing.booking": "reservation_id",
        "sessions.request": "reservation_id",
        "sessions.session": "name",
        "stations.reservation": "reservation_id",
        "telemetry.quarantine": "replay_correlation_id",
        "telemetry.session": "session_id",
    },
    "hashes and keys": {
        "access.token": "hash previous_hash",
        "audit.block": "digests entries_hash previous hash",
        "privacy.erasure": "subject_hash",
        "privacy.hashing_key": "key",
        "telemetry.lake_file": "content_hash",
    },
    "who of the operator's staff did something, and why": {
        "billing.cdr": "reason",
        "billing.charge_decision": "who why",
        "config.change": "changed_by reason",
        "config.setting": "changed_by reason",
        "notifications.template": "updated_by",
        "pricing.version": "published_by",
        "reporting.co2_version": "published_by",
        "reporting.exclusion": "note made_by withdrawn_by",
        "reporting.report": "requested_by",
        "stations.change": "changed_by",
        "stations.credential": "changed_by",
        "telemetry.quarantine": "replayed_by",
    },
    "the seller": {"billing.document_terms": "seller"},
    "what devices send of connectors, unknown fields as they came": {
        "telemetry.partition_state": "body",
        "telemetry.quarantine": "detail raw",
        "telemetry.reading": "extra",
    },
}
# Of the standard tables of every schema; those of schemas with data of drivers are declared.
STANDARD: Final = {
    "events_processed": {"queue"},
    "idempotency": {"key", "request_hash", "media_type"},
    "outbox": {"exchange", "routing_key"},
}
OF_OPERATORS: Final = {"idempotency": {"principal", "body", "location"}, "outbox": {"body", "headers"}}
_WHATEVER_IS_TEXT: Final = """
SELECT n.nspname, c.relname, a.attname
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_type AS t ON t.oid = a.atttypid LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname !~ '^(pg_|information_schema|_timescale|migrations$)'
  AND coalesce(e.typname, t.typname) NOT IN ('bool', 'date', 'float8', 'int2', 'int4', 'int8', 'numeric', 'point',
                                             'timestamptz', 'tstzmultirange', 'tstzrange', 'uuid')
"""


@pytest.fixture(scope="module")
def connection(session_servers: PrivateServers) -> Iterator[psycopg.Connection[Any]]:
    """A database brought up to date, as its owner."""
    with fresh_database(session_servers.url_of(session_servers.postgres)) as url:
        bring_up_to_date(url, 2)
        with psycopg.connect(url, autocommit=True) as opened:
            yield opened


def _declared() -> list[str]:
    return [column for kinds in personal_data().values() for one in kinds for column in one.columns]


def _not_personal() -> list[str]:
    return [
        f"{table}.{column}"
        for tables in NOT_PERSONAL.values()
        for table, columns in tables.items()
        for column in columns.split()
    ]


def _columns(connection: psycopg.Connection[Any]) -> set[str]:
    """Those that may hold text, but for those of standard tables that hold nothing of drivers."""
    with_drivers = {column.partition(".")[0] for column in _declared()} & set(SCHEMAS.values())
    columns: set[str] = set()
    for schema, table, column in connection.execute(_WHATEVER_IS_TEXT).fetchall():
        operators = set() if schema in with_drivers else OF_OPERATORS.get(table, set())
        if column not in STANDARD.get(table, set()) | operators:
            columns.add(f"{schema}.{table}.{column}")
    return columns


def test_every_column_that_may_hold_text_is_personal_data_or_known_to_be_none(
    connection: psycopg.Connection[Any],
) -> None:
    columns = _columns(connection)
    classified = [*_declared(), *_not_personal()]
    assert len(classified) == len(set(classified)), "a column has two classes"
    assert columns - set(classified) == set(), "declare it in the personal_data of its service, or say why it is none"
    assert set(classified) - columns == set(), "there is no such column any more"
    with connection.transaction(force_rollback=True):
        connection.execute("ALTER TABLE reservations.reservation ADD COLUMN phones text[]")
        connection.execute("CREATE TABLE sessions.note (id int, document jsonb)")
        new = {"reservations.reservation.phones", "sessions.note.document"}
        assert _columns(connection) - set(classified) == new, "a new column has no class"


def test_the_privacy_service_asks_every_service_that_declares_personal_data() -> None:
    declared = personal_data()
    assert {name: service(name).owned_schema for name in declared} == SCHEMAS
    assert list(SCHEMAS)[-1] == "billing", "nobody writes documents while it erases"
    for one in all_services():
        assert one.personal_data == declared.get(one.name, ())
        for kind in one.personal_data:
            schemas = {column.partition(".")[0] for column in kind.columns}
            assert schemas <= {one.owned_schema} | ({"access", "audit"} if one.name == "privacy" else set())
        if one.personal_data:
            assert set(in_standard_tables(one.owned_schema)) <= set(one.personal_data)


def test_each_retention_is_a_setting_or_said_in_words() -> None:
    adjustables = adjustables_of(settings_type())
    for kinds in personal_data().values():
        for one in kinds:
            if re.fullmatch(r"[a-z_.0-9]+", one.retention):
                assert adjustables[one.retention].unit in ("d", "h", "y"), one.kind
            assert one.retention or one.erased == "stays", one.kind
            if one.retention_unit:
                assert one.erased == "stays", one.kind


def test_events_have_drivers_at_the_top_of_their_payloads_where_an_erasure_finds_them() -> None:
    """`driver_id`, or `driver/<id>` in a text: kit/database/standard_tables/0002.personal_data.sql."""
    named = {
        (type_.__name__, field.name)
        for type_ in vars(events).values()
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_.__module__ == events.__name__
        for field in msgspec.structs.fields(type_)
        if re.search(r"driver|subject|person|mail|phone|name$|requested_by|customer|token", field.name)
    }
    payloads = {"SessionRequested", "SessionStopRequested", "SessionAssigned", "ReservationConfirmed"}
    payloads |= {"ReservationChanged", "ParkingOverstayed", "InvoiceChanged"}
    assert named == {
        *((payload, "driver_id") for payload in payloads),
        ("NotificationDelivery", "subject"),
        ("ReportGenerated", "requested_by"),  # an operator's
        ("StationChanged", "name"),
        ("ConfigUpdated", "name"),
    }
