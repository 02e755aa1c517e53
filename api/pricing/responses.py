"""Stored versions as responses. The tariff is passed on as it is stored, so that its numbers keep their digits."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from api.pricing.models import Change, target_json
from api.pricing.store import target_of
from kit.clock import format_rfc3339

_PLAIN: Final = ("id", "time_zone", "currency", "reason")


def version_response(row: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a `models.Version`."""
    return {**public_response(row), **{name: row[name] for name in ("published_by", "base_version")}}


def public_response(row: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a `models.PublicVersion`."""
    return {
        **{name: row[name] for name in _PLAIN},
        "target": target_json(target_of(row)),
        "effective_from": format_rfc3339(row["effective_from"]),
        "published_at": format_rfc3339(row["published_at"]),
        "tariff": msgspec.Raw(row["tariff"].encode()),
    }


def in_force_response(station_id: str, at: datetime, row: Mapping[str, Any], change: Change | None) -> dict[str, Any]:
    """The document of a `models.InForce`."""
    following = None if change is None else {"at": format_rfc3339(change.at), "version_id": change.version_id}
    return {"station_id": station_id, "at": format_rfc3339(at), "version": public_response(row), "next": following}


def encoded(answer: object) -> bytes:
    """The response as JSON bytes."""
    return msgspec.json.encode(answer)
