"""The metrics, each declared once: what it is, where it comes from, how it is summed. Pure.

A mean or a rate is the quotient of two sums, whatever it is grouped by: never a mean of means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from api.reporting.rollups.facets import SUMS, Facet
from api.reporting.uptime.repairs import LONGEST_DAYS

PEAK: Final = "power_mw_max"  # the sum that a peak shows
_WINDOWS: Final = "1-minute windows of readings (telemetry.connector_hours)"
_STATUSES: Final = "status intervals and silences (telemetry.status_intervals)"
_PORTS: Final = "registrations of ports, status intervals and silences (telemetry.status_intervals), exclusions"
_SESSIONS: Final = "sessions (telemetry.session_overview)"
_DOCUMENTS: Final = "invoices and credit notes (billing.documented_charges)"
_RESERVATIONS: Final = "reservations (reservations.reservation_overview)"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: the sum of some sums of a facet, or that divided by the sum of others. Of a facet of which the largest
    counts over time, that."""

    name: str
    unit: str
    definition: str
    source: str
    facet: Facet
    parts: tuple[str, ...]  # of the numerator
    scale: int = 1  # the numerator's: so many of it are one of the unit
    divided_by: tuple[str, ...] = ()  # parts of the denominator
    beside: tuple[str, ...] = ()  # sums that an answer shows and the value is not of

    @property
    def in_currencies(self) -> bool:
        """Whether it is money: then there is a row for each currency."""
        return self.facet is Facet.MONEY

    @property
    def is_peak(self) -> bool:
        """Whether it is the largest of its sums, over time."""
        return SUMS[self.facet].over_time == "max"

    @property
    def grouped_by(self) -> str:
        """How figures of hours and connectors become one."""
        if self.is_peak:
            return "largest, over time, of the sum over connectors"
        return "quotient of sums" if self.divided_by else "sum"

    @property
    def sum_names(self) -> tuple[str, ...]:
        """The sums that an answer shows."""
        return (PEAK,) if self.is_peak else tuple(dict.fromkeys((*self.parts, *self.divided_by, *self.beside)))

    def value(self, sums: Mapping[str, int]) -> float | None:
        """In the unit, of these sums by name; None: it is the quotient of nothing."""
        numerator, denominator = self.fraction(sums)
        return numerator / (denominator * self.scale) if denominator else None

    def fraction(self, sums: Mapping[str, int]) -> tuple[int, int]:
        """The numerator, before it is scaled, and the denominator of these sums by name; 1 of what is no quotient."""
        numerator = sums[PEAK] if self.is_peak else sum(sums[name] for name in self.parts)
        return numerator, sum(sums[name] for name in self.divided_by) if self.divided_by else 1


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            "energy_delivered",
            "Wh",
            "What the meters of connectors rose by, in sessions and outside of any, in the hour in which the register "
            "was read. Rises that the ledger of energy rejects and station main meters (connector 0) do not count.",
            _WINDOWS,
            Facet.ENERGY,
            ("in_session_mwh", "outside_mwh"),
            1_000,
        ),
        Metric(
            "co2",
            "kg",
            "CO2e of the energy delivered: of each connector and hour the energy by the factor of the station's "
            "country and the year, rounded to mg. Of stations whose country is unknown, or in no table, by the "
            "fallback of the table. Factors are published in versions (/api/v1/analytics/co2-factors); the newest that "
            "is for the year counts.",
            "energy_delivered, the countries of stations (stations.station_overview), factors by country and year",
            Facet.CO2,
            ("co2e_mg",),
            1_000_000,
        ),
        Metric(
            "energy_returned",
            "Wh",
            "What vehicles fed back in sessions, by the export register, in the hour in which the session ended.",
            _SESSIONS,
            Facet.SESSIONS,
            ("export_mwh",),
            1_000,
        ),
        Metric(
            "sessions",
            "1",
            "Charging sessions that ended in the time. Those that are void (short, and without energy) or that late "
            "readings withdrew do not count.",
            _SESSIONS,
            Facet.SESSIONS,
            ("sessions",),
        ),
        Metric(
            "session_duration",
            "s",
            "Mean time from the start to the end of the sessions that ended in the time.",
            _SESSIONS,
            Facet.SESSIONS,
            ("duration_ms",),
            1_000,
            ("sessions",),
        ),
        Metric(
            "revenue",
            "currency",
            "What documents charge, excl. VAT, less credit notes, in the hour in which the charge ended, before it is "
            "rounded to what is payable. What has no document yet does not count.",
            _DOCUMENTS,
            Facet.MONEY,
            ("excl_micros",),
            1_000_000,
        ),
        Metric(
            "revenue_incl_vat",
            "currency",
            "As revenue, incl. VAT.",
            _DOCUMENTS,
            Facet.MONEY,
            ("incl_micros",),
            1_000_000,
        ),
        Metric(
            "demand_margin",
            "currency",
            "What revenue is more (below 0: less) than the same quantities would have been charged by the tariffs that "
            "demand rules moved: of each charge, excl. VAT, its tariff version's price less the base version's, bounds "
            "and rounding included; of a charge by an operator's own version 0. A credit note of a part takes off its "
            "share. Documents of charges of which the base is not known count in margins_unknown, an invoice and its "
            "credit notes one each, and in nothing else.",
            f"{_DOCUMENTS}, with the bases of tariff versions (pricing.bases)",
            Facet.MONEY,
            ("demand_margin_micros",),
            1_000_000,
            beside=("margins_unknown",),
        ),
        Metric(
            "occupancy",
            "1",
            "Share of the time in which connectors were occupied: Preparing, Charging, SuspendedEV, SuspendedEVSE or "
            "Finishing. Of the time since the first status of each connector; silence counts as not occupied.",
            _STATUSES,
            Facet.STATUS,
            ("occupied_ms",),
            1,
            ("known_ms",),
        ),
        Metric(
            "delivering",
            "1",
            "Share of the time in which connectors were Charging; else as occupancy.",
            _STATUSES,
            Facet.STATUS,
            ("delivering_ms",),
            1,
            ("known_ms",),
        ),
        Metric(
            "faulted",
            "1",
            "Share of the time in which connectors were Faulted; else as occupancy.",
            _STATUSES,
            Facet.STATUS,
            ("faulted_ms",),
            1,
            ("known_ms",),
        ),
        Metric(
            "silent",
            "1",
            "Share of the time in which the stations of connectors were not heard; else as occupancy.",
            _STATUSES,
            Facet.STATUS,
            ("silent_ms",),
            1,
            ("known_ms",),
        ),
        Metric(
            "uptime",
            "1",
            "Share of the time in service in which a port was up (23 CFR 680.116(b)), or its outage is excluded. The "
            "rule's own figure, over the 525,600 minutes of twelve months, is in the report of uptime.",
            _PORTS,
            Facet.AVAILABILITY,
            ("up_ms",),
            1,
            ("service_ms",),
        ),
        Metric(
            "mttr",
            "s",
            "Mean time to repair: of outages that ended by the port being up again, by the hour of the end, without "
            f"what was excluded of them. Of an outage of more than {LONGEST_DAYS} days the last {LONGEST_DAYS} count.",
            _PORTS,
            Facet.REPAIRS,
            ("repaired_ms",),
            1_000,
            ("repairs",),
        ),
        Metric(
            "charging_success_rate",
            "1",
            "Share of the sessions that ended in the time, void ones among them, that delivered 0.1 kWh at least and "
            "whose port was not Faulted while they lasted.",
            f"{_SESSIONS} and {_STATUSES}",
            Facet.SESSIONS,
            ("successes",),
            1,
            ("attempts",),
        ),
        Metric(
            "peak_power",
            "W",
            "The largest sum over connectors of their mean powers of a quarter of an hour (UTC). A connector's mean is "
            "that of its readings with a power, rounded to mW; without one it is 0.",
            _WINDOWS,
            Facet.POWER,
            SUMS[Facet.POWER].names,
            1_000,
        ),
        Metric(
            "reservations",
            "1",
            "Reservations by the hour of their start; those that were held and never confirmed do not count.",
            _RESERVATIONS,
            Facet.RESERVATIONS,
            ("reservations",),
        ),
        Metric(
            "no_show_rate",
            "1",
            "Share of no-shows of the reservations that were used or not, by the hour of their start.",
            _RESERVATIONS,
            Facet.RESERVATIONS,
            ("no_shows",),
            1,
            ("used", "no_shows"),
        ),
        Metric(
            "waiting_time",
            "s",
            "Mean time from joining a waiting list to the offer of a place, by the hour of the offer.",
            "waiting lists (reservations.waiting_overview)",
            Facet.WAITING,
            ("waited_ms",),
            1_000,
            ("waited",),
        ),
    )
}
