"""Every route of every service, in exactly one of these tables: how a token of some stations is limited there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.voltstream.tenancy import HOUR, NOW, Tenancy

Operation = tuple[str, str]
Item = Any


def _at_station(item: Item) -> frozenset[str]:
    station_id = item["station_id"] if isinstance(item, dict) else item
    return frozenset() if station_id is None else frozenset((station_id,))


@dataclass(frozen=True)
class Listing:
    """A route that lists: what is asked, where the items stand, and of which stations each is."""

    member: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""  # of the things that the items are, by this field
    by: str = "id"
    at: Mapping[str, str] = field(default_factory=dict)  # in the path
    paged: bool = True

    def stations(self, tenancy: Tenancy, item: Item) -> frozenset[str]:
        """Those whose organisation sees the item."""
        return tenancy.stations_of(self.kind, item[self.by]) if self.kind else _at_station(item)

    def shown(self, item: Item, own: set[str]) -> Item:
        """As whoever has these stations sees the item."""
        if isinstance(item, dict) and item.get("moved_from") not in (None, *own):
            return {**item, "moved_from": None, "reason": None}
        return item


HOURS: Final = {"from": (NOW - 49 * HOUR).isoformat(), "to": NOW.isoformat(), "by": "hour"}
LISTS: Final[dict[str, Sequence[Listing]]] = {
    "/api/v1/stations": [Listing("stations")],
    "/api/v1/stations/search": [
        Listing("stations", {"latitude": "52.5", "longitude": "13.4", "radius_m": "50000"}),
        Listing("stations", {"latitude": "52.5", "longitude": "13.4", "radius_m": "50000", "sort": "price"}),
        Listing("stations", {"text": "Halle", "latitude": "52.5", "longitude": "13.4", "radius_m": "50000"}),
    ],
    "/api/v1/telemetry/quarantine": [Listing("items"), Listing("items", {"reason": "malformed", "waiting": "true"})],
    "/api/v1/pricing/groups/{group}": [Listing("stations", at={"group": "city"})],
    "/api/v1/pricing/stations/without-tariff": [Listing("stations")],
    "/api/v1/reservations": [Listing("reservations"), Listing("reservations", {"state": "confirmed"})],
    "/api/v1/reservations/parking": [Listing("bays")],
    "/api/v1/sessions": [
        Listing("sessions"),
        Listing("sessions", {"state": "completed"}),
        Listing("sessions", {"state": "requested"}),
        Listing("sessions", {"driver_id": "driver-3"}),
    ],
    "/api/v1/uptime/exclusions": [Listing("exclusions")],
    "/api/v1/billing/charges": [Listing("charges"), Listing("charges", {"driver_id": "driver-1"})],
    "/api/v1/billing/invoices": [
        Listing("invoices", kind="invoice"),
        Listing("invoices", {"driver_id": "driver-1", "status": "open"}, kind="invoice"),
    ],
    "/api/v1/billing/export/left-out": [Listing("documents", kind="number", by="number")],
    "/api/v1/analytics/{metric}": [
        Listing("figures", {**HOURS, "group": "station"}, kind="station", by="group", at={"metric": "energy_delivered"})
    ],
}
"""Routes with pages of items."""
WHOLE: Final = {
    "/api/v1/telemetry/live",
    "/api/v1/telemetry/live/stream",
    "/api/v1/stations/export",
    "/api/v1/billing/export",
    "/api/v1/analytics/{metric}/heat-map",
    "/api/v1/reports",
    "/api/v1/reports/{id}",
}
"""Routes about many stations that have a test of their own below."""
SINGLES: Final = {
    "/api/v1/sessions/{id}": ("session", "request"),
    "/api/v1/sessions/{id}/readings": ("session",),
    "/api/v1/reservations/{id}": ("reservation",),
    "/api/v1/telemetry/quarantine/{item_id}": ("quarantined",),
    "/api/v1/billing/charges/{id}": ("charge",),
    "/api/v1/billing/invoices/{id}": ("invoice",),
    "/api/v1/billing/invoices/{id}/explain": ("invoice",),
    "/api/v1/billing/invoices/{id}/pdf": ("invoice",),
    "/api/v1/billing/invoices/{id}/xml": ("invoice",),
}
"""Routes about one thing, by its id: the kinds of things that it may be."""
OF_NO_STATION: Final = {"/api/v1/analytics"}  # what is the same for everybody
REFUSED: Final = {
    ("get", path)
    for path in (
        "/api/v1/telemetry/ledger",
        "/api/v1/telemetry/unclaimed",
        "/api/v1/pricing/versions",
        "/api/v1/pricing/versions/{id}",
        "/api/v1/pricing/demand/groups/{group}",
        "/api/v1/pricing/demand/default",
        "/api/v1/config",
        "/api/v1/config/flags",
        "/api/v1/config/history",
        "/api/v1/config/{name}",
        "/api/v1/audit",
        "/api/v1/privacy/{subject:path}",
        "/api/v1/reservations/waiting",
        "/api/v1/reservations/waiting/{id}",
        "/api/v1/notifications",
        "/api/v1/notifications/deliveries",
        "/api/v1/notifications/preferences",
        "/api/v1/notifications/preferences/webhook-secret",
        "/api/v1/notifications/templates",
        "/api/v1/notifications/templates/{kind}/{channel}/{language}",
        "/api/v1/analytics/co2-factors",
        "/api/v1/analytics/co2-factors/{version}",
        "/api/v1/billing/balance",
        "/api/v1/billing/payments/{id}",
        "/api/v1/billing/customers",
        "/api/v1/billing/customers/{id}",
    )
} | {
    ("post", "/api/v1/stations"),
    ("post", "/api/v1/stations/import"),
    ("post", "/api/v1/pricing"),
    ("put", "/api/v1/pricing/demand/groups/{group}"),
    ("delete", "/api/v1/pricing/demand/groups/{group}"),
    ("put", "/api/v1/pricing/demand/default"),
    ("delete", "/api/v1/pricing/demand/default"),
    ("post", "/api/v1/config"),
    ("post", "/api/v1/config/flags"),
    ("delete", "/api/v1/config/{name}"),
    ("post", "/api/v1/reservations/waiting"),
    ("post", "/api/v1/reservations/waiting/{id}/accept"),
    ("post", "/api/v1/reservations/waiting/{id}/skip"),
    ("delete", "/api/v1/reservations/waiting/{id}"),
    ("post", "/api/v1/notifications"),
    ("put", "/api/v1/notifications/preferences"),
    ("put", "/api/v1/notifications/templates/{kind}/{channel}/{language}"),
    ("delete", "/api/v1/notifications/templates/{kind}/{channel}/{language}"),
    ("post", "/api/v1/notifications/templates/{kind}/{channel}/{language}/preview"),
    ("post", "/api/v1/analytics/co2-factors"),
    ("post", "/api/v1/billing/cancel"),
    ("post", "/api/v1/billing/charge"),
    ("post", "/api/v1/billing/invoices/{id}/credit"),
    ("post", "/api/v1/billing/payments/{id}/refund"),
    ("post", "/api/v1/billing/customers"),
    ("put", "/api/v1/billing/customers/{id}"),
    ("delete", "/api/v1/billing/customers/{id}"),
    ("post", "/api/v1/billing/statements"),
    ("post", "/api/v1/telemetry/quarantine/replay"),
    ("delete", "/api/v1/privacy/{subject:path}"),
}
"""What a token of some stations is refused: it is about all of them, or about none."""
_WHY: Final = {"why": "read on site"}
CHANGES: Final[dict[Operation, tuple[str, Any]]] = {
    ("post", "/api/v1/sessions/{id}/stop"): ("session", None),
    ("post", "/api/v1/reservations/{id}/confirm"): ("reservation", None),
    ("delete", "/api/v1/reservations/{id}"): ("reservation", None),
    ("post", "/api/v1/billing/charges/{id}/approve"): ("charge", _WHY),
    ("post", "/api/v1/billing/charges/{id}/correct"): ("charge", {**_WHY, "energy_wh": "1.000"}),
    ("post", "/api/v1/billing/charges/{id}/void"): ("charge", _WHY),
    ("delete", "/api/v1/uptime/exclusions/{id}"): ("exclusion", None),
}
"""Changes of one thing, by its id."""
_SPAN: Final = {"from": "2026-03-12T06:00:00Z", "to": "2026-03-12T14:30:00Z"}
AT_A_STATION: Final[dict[Operation, Any]] = {
    ("post", "/api/v1/sessions"): {"connector_id": 1, "driver_id": "D9"},
    ("post", "/api/v1/reservations"): {"connector_id": 1, "driver_id": "D9", "duration_s": 1_800},
    ("post", "/api/v1/uptime/exclusions"): {**_SPAN, "reason": "utility_interruption", "note": "so"},
}
"""Changes at the station that the body names."""
ASKING: Final = {("post", "/api/v1/reports")}  # makes what is asked for, of the token's stations
