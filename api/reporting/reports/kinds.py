"""The kinds of report: what each is made of, and which times it can be asked for. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from api.reporting.analytics.buckets import Width
from api.reporting.uptime import quarterly, uptime_tables
from api.reporting.uptime.months import YEAR_MONTHS, is_month_start, months_between
from kit.clock import EPOCH

MONTHS_MAX: Final = 2 * YEAR_MONTHS
DAYS_MAX: Final = 31
_DAY: Final = timedelta(days=1)


class ReportKind(StrEnum):
    """Names are stored and published: never rename."""

    OPERATIONS = "operations"
    REVENUE = "revenue"
    UPTIME = "uptime"
    QUARTERLY = "quarterly"


_OF_MONTHS: Final = (ReportKind.UPTIME, ReportKind.QUARTERLY)


class ReportFormat(StrEnum):
    """Of a report's file."""

    CSV = "csv"
    PARQUET = "parquet"
    PDF = "pdf"


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What a reader is told of every report of the kind."""

    title: str
    definition: str
    sources: Sequence[str]  # what it is computed from


_STATUSES: Final = "telemetry.status_intervals (docs/adr/0019)"
_REGISTRY: Final = "the registry's revisions (station.*.v1)"
_EXCLUSIONS: Final = "exclusions entered by operators"
_ROLL_UPS: Final = "hourly roll-ups (the table of sources says of what)"
FACTS: Final[Mapping[ReportKind, KindFacts]] = {
    ReportKind.OPERATIONS: KindFacts(
        "Operations",
        "Energy, sessions, utilisation and repairs are metrics of GET /api/v1/analytics, summed over the time; the "
        "table of sources has their definitions. Outage: in service and not up, as 23 CFR 680.116 has it, silence "
        "included. Shares are rounded down.",
        (_ROLL_UPS, _STATUSES, _REGISTRY, _EXCLUSIONS),
    ),
    ReportKind.REVENUE: KindFacts(
        "Revenue",
        "What invoices charge less what credit notes give back, exact to the micro-unit, by the hour in which the "
        "charge ended. What has no document yet does not count. The demand margin is the part of the revenue that "
        "demand pricing added, excl. VAT. Unknown: documents of charges of which that is not known.",
        (_ROLL_UPS,),
    ),
    ReportKind.UPTIME: KindFacts(
        "Uptime of charging ports", uptime_tables.DEFINITION, (_STATUSES, _REGISTRY, _EXCLUSIONS)
    ),
    ReportKind.QUARTERLY: KindFacts(
        "Quarterly data of charging ports",
        f"23 CFR 680.112(a). {uptime_tables.DEFINITION}",
        (_STATUSES, _REGISTRY, _EXCLUSIONS, "telemetry.session_overview"),
    ),
}


def check_period(kind: ReportKind, start: datetime, end: datetime, now: datetime, known_since: datetime) -> None:
    """Raises ValueError, which says what to write, for a time that this kind is not of. `known_since`: statuses from
    before are dropped, and would be taken for outage."""
    if start >= end:
        raise ValueError("from must be before to")
    if end > now:
        raise ValueError("to is in the future: a report is of a time that is over")
    first = uptime_tables.window_start(start) if kind in _OF_MONTHS else start
    if kind is not ReportKind.REVENUE and first < known_since:
        raise ValueError(
            f"statuses from {first:%Y-%m-%d} on are wanted, and kept are those since {known_since:%Y-%m-%d} "
            "(telemetry.status_retention): ask for a later time"
        )
    if is_month_start(start) and is_month_start(end):
        months = len(months_between(start, end))
        if kind is ReportKind.QUARTERLY and months != quarterly.QUARTER_MONTHS:
            raise ValueError(f"a quarter has three months, not {months}")
        if months > MONTHS_MAX:
            raise ValueError(f"at most {MONTHS_MAX} months at once: ask for the others in another report")
    elif kind in _OF_MONTHS:
        raise ValueError("this kind is of whole months in UTC: write from and to like 2026-01-01")
    elif (start - EPOCH) % _DAY or (end - EPOCH) % _DAY:
        raise ValueError("a report is of whole days in UTC: write from and to like 2026-01-31")
    elif end - start > DAYS_MAX * _DAY:
        raise ValueError(f"at most {DAYS_MAX} days at once where they are not whole months")


def width_of(start: datetime, end: datetime) -> Width:
    """By what the figures of such a time are asked for."""
    return "month" if is_month_start(start) and is_month_start(end) else "day"
