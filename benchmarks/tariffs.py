"""Tariffs to measure with: distinct, of several elements each, with what operators restrict by."""

from random import Random
from typing import Any, Final
from uuid import UUID

from schemas.tariff import Tariff
from streams.tariff_version import TariffVersion

ZONES: Final = ("Europe/Amsterdam", "Europe/Lisbon", "Europe/Helsinki", "America/New_York")
_SEED: Final = 3
_WEEKEND: Final = ["SATURDAY", "SUNDAY"]


def tariff_versions(count: int, *, seconds: int, power_w: int) -> list[TariffVersion]:
    """Versions 1 to `count`, each another document.

    All have a night and a weekend price in their zone and a price for the rest, with time, parking and a fee to start.
    A third tell apart the first kWh, a third durations, a third power. Their thresholds lie within what a session of so
    many seconds and so much power reaches: in such a run each of them is crossed, far more often than in the field.
    """
    random = Random(_SEED)
    return [_version(key, random, seconds, power_w) for key in range(1, count + 1)]


def _version(key: int, random: Random, seconds: int, power_w: int) -> TariffVersion:
    night = (
        f"{random.randrange(20, 24)}:{random.randrange(60):02d}",
        f"0{random.randrange(5, 9)}:{random.randrange(60):02d}",
    )
    elements = [
        _element(random, {"start_time": night[0], "end_time": night[1]}, "ENERGY", "FLAT"),
        _element(random, {"day_of_week": _WEEKEND}, "ENERGY", "TIME"),
        _element(random, _third(key % 3, random, seconds, power_w), "ENERGY", "TIME", "PARKING_TIME"),
        _element(random, {}, "ENERGY", "TIME", "PARKING_TIME", "FLAT"),
    ]
    document: dict[str, Any] = {"id": f"T{key}", "currency": "EUR", "elements": elements}
    if key % 4 == 0:
        document |= {"min_price": {"excl_vat": "0.50"}, "max_price": {"excl_vat": "80", "incl_vat": "96.80"}}
    tariff = Tariff.model_validate(document)
    return TariffVersion.of(key, UUID(int=key), random.choice(ZONES), tariff.model_dump_json(exclude_none=True))


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
