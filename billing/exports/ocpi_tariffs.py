"""Published tariffs as OCPI's Tariff objects: with the fields that OCPI requires, each as OCPI writes it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kit.clock import format_rfc3339, parse_rfc3339

_TEXT_CHARS_MAX: Final = 512
_NAME_CHARS_MAX: Final = 64
_SOURCES: Final = frozenset(["NUCLEAR", "GENERAL_FOSSIL", "COAL", "GAS", "GENERAL_GREEN", "SOLAR", "WIND", "WATER"])
_IMPACTS: Final = frozenset({"NUCLEAR_WASTE", "CARBON_DIOXIDE"})


def printable(text: str, chars_max: int) -> str:
    """As a string of OCPI has it: what cannot be printed is a space, and what is too long is cut."""
    return "".join(char if char.isprintable() else " " for char in text[:chars_max])


def ocpi_tariff(
    published: Mapping[str, Any], version: str, heard_at: datetime, party: Mapping[str, str]
) -> dict[str, Any]:
    """The Tariff of a version as it was published; its moments in UTC, and without what OCPI has no value for."""
    tariff: dict[str, Any] = {**party, **{name: value for name, value in published.items() if value is not None}}
    tariff["id"] = published.get("id") or version
    tariff["last_updated"] = _moment(published.get("last_updated")) or format_rfc3339(heard_at)
    for name in ("start_date_time", "end_date_time"):
        if name in tariff:
            tariff[name] = _moment(tariff[name])
    if "tariff_alt_text" in tariff:
        tariff["tariff_alt_text"] = [
            {**one, "text": printable(one["text"], _TEXT_CHARS_MAX)} for one in tariff["tariff_alt_text"]
        ]
    if not tariff.get("tariff_alt_url", "").isprintable():
        del tariff["tariff_alt_url"]
    if "energy_mix" in tariff:
        tariff["energy_mix"] = _energy_mix(tariff["energy_mix"])
    return {name: value for name, value in tariff.items() if value is not None}


def _energy_mix(mix: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where it names sources or impacts that OCPI does not have: it is for information, and may be left out."""
    sources = {one["source"] for one in mix.get("energy_sources") or ()}
    impacts = {one["category"] for one in mix.get("environ_impact") or ()}
    if not (sources <= _SOURCES and impacts <= _IMPACTS):
        return None
    return {
        name: printable(value, _NAME_CHARS_MAX) if isinstance(value, str) else value
        for name, value in mix.items()
        if value is not None
    }


def _moment(written: object) -> str | None:
    """In UTC; None where it is no moment."""
    try:
        return format_rfc3339(parse_rfc3339(written)) if isinstance(written, str) else None
    except ValueError:
        return None
