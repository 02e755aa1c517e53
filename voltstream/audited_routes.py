"""What the audit keeps of each route that may change something, beside the request's own entry.

RECORDED: actions of entries with what was before and after, written in the transaction of the change. REQUEST_ONLY: why
there are none. A test compares both with the routes of all services, so that a new one says which it is; a table of
docs/security.md is made of them (`python -m voltstream.architecture_tables`).
"""

from collections.abc import Mapping
from typing import Final

Operation = tuple[str, str]
"""Method and path."""

_API: Final = "/api/v1"
_OWN_HISTORY: Final = "its rows are never changed, and name who made and who withdrew them"
_OF_A_DRIVER: Final = "what a driver asks for: its states, times and who asked are rows of the service"
_OF_THE_SUBJECT: Final = "a person's own choices; the row names who changed them last"
_NOTHING: Final = "changes nothing"

RECORDED: Final[Mapping[Operation, tuple[str, ...]]] = {
    ("POST", f"{_API}/stations"): ("station.created",),
    ("POST", f"{_API}/stations/import"): ("station.created", "station.updated"),
    ("PUT", f"{_API}/stations/{{station_id}}"): ("station.created", "station.updated"),
    ("DELETE", f"{_API}/stations/{{station_id}}"): ("station.removed",),
    ("PUT", f"{_API}/stations/{{station_id}}/connectors/{{connector_id}}"): ("station.updated",),
    ("DELETE", f"{_API}/stations/{{station_id}}/connectors/{{connector_id}}"): ("station.updated",),
    ("PUT", f"{_API}/stations/{{station_id}}/credentials"): ("credentials.set",),
    ("DELETE", f"{_API}/stations/{{station_id}}/credentials"): ("credentials.removed",),
    ("POST", f"{_API}/pricing"): ("tariff.published",),
    ("PUT", f"{_API}/pricing/demand/stations/{{station_id}}"): ("demand_rule.set",),
    ("PUT", f"{_API}/pricing/demand/groups/{{group}}"): ("demand_rule.set",),
    ("PUT", f"{_API}/pricing/demand/default"): ("demand_rule.set",),
    ("DELETE", f"{_API}/pricing/demand/stations/{{station_id}}"): ("demand_rule.ended", "tariff.published"),
    ("DELETE", f"{_API}/pricing/demand/groups/{{group}}"): ("demand_rule.ended", "tariff.published"),
    ("DELETE", f"{_API}/pricing/demand/default"): ("demand_rule.ended", "tariff.published"),
    ("POST", f"{_API}/config"): ("setting.changed",),
    ("POST", f"{_API}/config/flags"): ("flag.changed",),
    ("DELETE", f"{_API}/config/{{name}}"): ("setting.changed", "flag.changed"),
    ("PUT", f"{_API}/notifications/templates/{{kind}}/{{channel}}/{{language}}"): ("template.edited",),
    ("DELETE", f"{_API}/notifications/templates/{{kind}}/{{channel}}/{{language}}"): ("template.reset",),
    ("POST", f"{_API}/billing/customers"): ("customer.added",),
    ("PUT", f"{_API}/billing/customers/{{id}}"): ("customer.changed",),
    ("DELETE", f"{_API}/billing/customers/{{id}}"): ("customer.deleted",),
    ("POST", f"{_API}/billing/cancel"): ("invoice.cancelled",),
    ("POST", f"{_API}/billing/invoices/{{id}}/credit"): ("invoice.credited",),
    ("POST", f"{_API}/billing/payments/{{id}}/refund"): ("invoice.credited",),
    ("POST", f"{_API}/billing/charges/{{id}}/approve"): ("charge.approved",),
    ("POST", f"{_API}/billing/charges/{{id}}/correct"): ("charge.corrected",),
    ("POST", f"{_API}/billing/charges/{{id}}/void"): ("charge.voided",),
    ("POST", f"{_API}/billing/payments/{{provider}}/webhook"): ("payment.reported",),
    ("POST", f"{_API}/telemetry/quarantine/replay"): ("quarantine.replayed",),
    ("GET", f"{_API}/privacy/{{subject}}"): ("privacy.exported",),
    ("DELETE", f"{_API}/privacy/{{subject}}"): ("privacy.erased",),
}

REQUEST_ONLY: Final[Mapping[Operation, str]] = {
    ("POST", f"{_API}/telemetry"): "readings: counted by token and minute",
    (
        "POST",
        f"{_API}/telemetry/unclaimed/{{station_id}}/release",
    ): "the items say when they were released",
    ("POST", f"{_API}/reservations"): _OF_A_DRIVER,
    ("POST", f"{_API}/reservations/{{id}}/confirm"): _OF_A_DRIVER,
    ("DELETE", f"{_API}/reservations/{{id}}"): _OF_A_DRIVER,
    ("POST", f"{_API}/reservations/waiting"): _OF_A_DRIVER,
    ("POST", f"{_API}/reservations/waiting/{{id}}/accept"): _OF_A_DRIVER,
    ("POST", f"{_API}/reservations/waiting/{{id}}/skip"): _OF_A_DRIVER,
    ("DELETE", f"{_API}/reservations/waiting/{{id}}"): _OF_A_DRIVER,
    ("POST", f"{_API}/sessions"): _OF_A_DRIVER,
    ("POST", f"{_API}/sessions/{{id}}/stop"): _OF_A_DRIVER,
    ("POST", f"{_API}/notifications"): "a message: its deliveries are rows of the service",
    ("POST", f"{_API}/notifications/templates/{{kind}}/{{channel}}/{{language}}/preview"): _NOTHING,
    ("PUT", f"{_API}/notifications/preferences"): _OF_THE_SUBJECT,
    ("POST", f"{_API}/analytics/co2-factors"): "a new version, never changed, with who published it",
    ("POST", f"{_API}/uptime/exclusions"): _OWN_HISTORY,
    ("DELETE", f"{_API}/uptime/exclusions/{{id}}"): _OWN_HISTORY,
    ("POST", f"{_API}/reports"): "a report: its row names who asked for it",
    ("POST", f"{_API}/billing/charge"): "a payment: its row has its states, and an event each",
    ("POST", f"{_API}/billing/statements"): "documents, which are never changed",
}
