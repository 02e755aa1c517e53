"""Tariffs and usages made by hand."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from billing.rating.allocate import ComponentUsage, allocate_usage
from billing.rating.usage import EnergyStretch, TimeStretch, Usage, UsageInterval
from kit.clock import to_ms
from schemas.session import UsageKind
from schemas.tariff import Dimension, Tariff

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
KWH = 1_000_000  # mWh
UTC_ZONE = ZoneInfo("UTC")


def utc_ms(text: str) -> int:
    """`2026-01-31T09:00`"""
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


def component(dimension: str, price: str = "1", step_size: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": dimension, "price": price, "step_size": step_size, **more}


def element(*dimensions: str, **restrictions: Any) -> dict[str, Any]:
    """An element that prices these dimensions, under these restrictions."""
    return {"price_components": [component(name) for name in dimensions], "restrictions": restrictions or None}


def tariff(*elements: dict[str, Any], **more: Any) -> Tariff:
    return Tariff.model_validate({"currency": "EUR", "elements": list(elements), **more})


def stretch(
    start_ms: int,
    minutes: int,
    kind: UsageKind = UsageKind.CHARGING,
    energy_mwh: int = 0,
    power_mw: int = 0,
    current_ma: int = 0,
) -> UsageInterval:
    """An interval whose time and energy are of the same minutes."""
    end_ms = start_ms + minutes * MINUTE_MS
    energy = EnergyStretch(start_ms, end_ms, energy_mwh, power_mw, current_ma)
    return UsageInterval(TimeStretch(start_ms, end_ms, kind, power_mw, current_ma), energy if energy_mwh else None)


def usage(*intervals: UsageInterval, start_ms: int | None = None) -> Usage:
    """From its first interval on, with what that holds."""
    first = intervals[0].time
    assert first is not None
    return Usage(first.start_ms if start_ms is None else start_ms, first.power_mw, first.current_ma, intervals)


def volumes(priced: Tariff, used: Usage, zone: ZoneInfo = UTC_ZONE) -> dict[tuple[int, Dimension], int]:
    """Volumes by element and dimension."""
    return {(one.element, one.dimension): one.volume for one in allocate_usage(priced, zone, used)}


def last(consumption: list[ComponentUsage]) -> set[tuple[int, Dimension]]:
    """To which components step_size applies."""
    return {(one.element, one.dimension) for one in consumption if one.last}
