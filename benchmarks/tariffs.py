"""Generates distinct tariffs of several elements, with the restrictions that operators use."""

from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from benchmarks.readings import START_MS
from schemas.tariff import Tariff
from streams.tariffs.version import TariffVersion

ZONES: Final = ("Europe/Amsterdam", "Europe/Lisbon", "Europe/Helsinki", "America/New_York")
_SEED: Final = 3
_WEEKEND: Final = ["SATURDAY", "SUNDAY"]


def tariff_versions(count: int, *, seconds: int, power_w: int, start_ms: int = START_MS) -> list[TariffVersion]:
    """Versions 1 to `count`, each with another document.

    All have a price from a time of day on, one for weekends, in their zone, and one for the rest, with time, parking
    and a start fee. A third restrict by energy, a third by duration, a third by power. The thresholds, and every second
    time of day, lie within the reach of a session of so many seconds and so much power, far more often than in the
    field.
    """
    random = Random(_SEED)
    return [_version(key, random, seconds, power_w, start_ms) for key in range(1, count + 1)]


def _version(key: int, random: Random, seconds: int, power_w: int, start_ms: int) -> TariffVersion:
    zone = random.choice(ZONES)
    begins_s = start_ms // 1_000 + (random.randrange(60, 60 + seconds) if key % 2 else random.randrange(86_400))
    begins = datetime.fromtimestamp(begins_s, ZoneInfo(zone))
    span = {"start_time": f"{begins:%H:%M}", "end_time": f"{begins + timedelta(hours=random.randrange(1, 9)):%H:%M}"}
    elements = [
        _element(random, span, "ENERGY", "FLAT"),
        _element(random, {"day_of_week": _WEEKEND}, "ENERGY", "TIME"),
        _element(random, _third(key % 3, random, seconds, power_w), "ENERGY", "TIME", "PARKING_TIME"),
        _element(random, {}, "ENERGY", "TIME", "PARKING_TIME", "FLAT"),
    ]
    document: dict[str, Any] = {"id": f"T{key}", "currency": "EUR", "elements": elements}
    if key % 4 == 0:
        document |= {"min_price": {"excl_vat": "0.50"}, "max_price": {"excl_vat": "80", "incl_vat": "96.80"}}
    tariff = Tariff.model_validate(document)
    return TariffVersion.of(key, UUID(int=key), zone, tariff.model_dump_json(exclude_none=True))


def _third(which: int, random: Random, seconds: int, power_w: int) -> dict[str, Any]:
    since_s = random.randrange(1, seconds)
    if which == 0:
        return {"max_kwh": f"{power_w * since_s / 3_600_000:.3f}"}
    if which == 1:
        return {"min_duration": since_s}
    return {"max_power": f"{random.randrange(1, 2 * power_w) / 1_000:.3f}"}


def _element(random: Random, restrictions: dict[str, Any], *dimensions: str) -> dict[str, Any]:
    components = []
    for dimension in dimensions:
        step = 0 if dimension == "FLAT" else random.choice((1, 60, 100))
        components.append(
            {"type": dimension, "price": f"0.{random.randrange(1, 10_000):04d}", "vat": "21", "step_size": step}
        )
    return {"price_components": components} | ({"restrictions": restrictions} if restrictions else {})
