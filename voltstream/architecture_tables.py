"""Derives tables of ARCHITECTURE.md and docs/security.md from what is declared:
`python -m voltstream.architecture_tables`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from kit.auth.scopes import KINDS, scopes_of
from kit.config.adjustable import adjustables_of
from kit.personal_data import PersonalData
from kit.service import Service
from schemas.topics import CONFIG_UPDATED
from voltstream.audited_routes import RECORDED, REQUEST_ONLY, Operation
from voltstream.services import SUBSETS, all_services, follows_config, personal_data
from voltstream.settings import settings_type

PAGE: Final = Path(__file__).parents[1] / "ARCHITECTURE.md"
SECURITY_PAGE: Final = PAGE.parent / "docs" / "security.md"
BEGIN, END = "<!-- derived: {} -->", "<!-- end: {} -->"


def tables(services: Sequence[Service[Any]]) -> dict[str, str]:
    """Name -> table in Markdown: the services, the events with publishers and consumers, the contracts in SQL."""
    return {"services": _services(services), "events": _events(services), "contracts": _contracts(services)}


def roles_table() -> dict[str, str]:
    """Name -> table in Markdown: what each role may do."""
    rows = [(f"`{kind}`", _codes(sorted(scopes_of(kind)))) for kind in KINDS]
    return {"roles": _table(("role", "scopes"), rows)}


def audit_tables() -> dict[str, str]:
    """Name -> table in Markdown: actions with what was before and after, by route; and routes without them."""
    recorded = [(_operation(one), _codes(actions)) for one, actions in RECORDED.items()]
    reasons = {reason: [one for one in REQUEST_ONLY if REQUEST_ONLY[one] == reason] for reason in REQUEST_ONLY.values()}
    others = [(", ".join(map(_operation, some)), reason) for reason, some in reasons.items()]
    return {
        "recorded": _table(("route", "entries with before and after"), recorded),
        "request-only": _table(("route", "why there is the request's entry alone"), others),
    }


def _operation(operation: Operation) -> str:
    method, path = operation
    return f"`{method} {path.removeprefix('/api/v1')}`"


def personal_data_tables() -> dict[str, str]:
    """Name -> table in Markdown: what is held of drivers, and how long records are kept."""
    becomes = {
        "pseudonym": "a pseudonym stands for the driver",
        "removed": "nobody's",
        "deleted": "deleted",
        "stays": "stays: ",
    }
    services: dict[PersonalData, list[str]] = {}
    for name, kinds in personal_data().items():
        for one in kinds:
            # Of all schemas alike.
            alike = replace(one, columns=()) if one.kind in ("events", "responses") else one
            services.setdefault(alike, []).append(name)
    held = [
        (f"`{one.kind}`", one.summary, _codes(names), becomes[one.erased] + one.stays, _words(one.retention))
        for one, names in services.items()
    ]
    settings = sorted(
        (one for one in adjustables_of(settings_type()).values() if one.name.endswith("retention")),
        key=lambda one: one.name,
    )
    kept = [(f"`{one.name}`", f"{one.default} {one.unit}", one.description) for one in settings]
    return {
        "personal data": _table(("kind", "what", "held by", "when the driver is erased", "else ends after"), held),
        "retention": _table(("setting", "default", "what"), kept),
    }


def security_tables() -> dict[str, str]:
    """All tables of docs/security.md."""
    return {**roles_table(), **audit_tables(), **personal_data_tables()}


def written(page: str, derived: dict[str, str]) -> str:
    """The page with these tables between their marks. Raises ValueError where a mark is missing."""
    for name, table in derived.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, found, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page lacks {begin} or {end}")
        page = f"{head}{begin}\n{table}\n{end}{tail}"
    return page


def _services(services: Sequence[Service[Any]]) -> str:
    subsets = {name: subset for subset, names in SUBSETS.items() for name in names}
    rows = [
        (f"`{one.name}`", one.summary, _code(one.owned_schema), _code(one.role if one.has_database else ""),
         _code(subsets.get(one.name, "")))
        for one in services
    ]  # fmt: skip
    return _table(("service", "what it does", "schema", "role", "part of"), rows)


def _events(services: Sequence[Service[Any]]) -> str:
    types = sorted({*_all(one.publishes for one in services), *_all(_consumed(one) for one in services)})
    rows = [
        (
            f"`{event_type}`",
            _codes(one.name for one in services if event_type in one.publishes),
            _codes(one.name for one in services if event_type in _consumed(one)),
        )
        for event_type in types
    ]
    return _table(("event", "published by", "consumed by"), rows)


def _contracts(services: Sequence[Service[Any]]) -> str:
    rows = [
        (f"`{contract.name}`", owner.name, contract.summary,
         _codes(one.name for one in services if contract.name in one.reads))
        for owner in services
        for contract in owner.contracts
    ]  # fmt: skip
    return _table(("view or function", "owner", "what it answers", "asked by"), rows)


def _consumed(service: Service[Any]) -> list[str]:
    own = [consumes.event_type for consumes in service.consumes]
    return [*own, CONFIG_UPDATED] if follows_config(service) else own


def _all(many: Iterable[Iterable[str]]) -> list[str]:
    return [one for some in many for one in some]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _words(retention: str) -> str:
    """A setting's name as code, words as they are."""
    return _code(retention) if re.fullmatch(r"[a-z0-9_.]+", retention) else retention


def _codes(names: Iterable[str]) -> str:
    return ", ".join(map(_code, names))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for _page, _derived in ((PAGE, tables(all_services())), (SECURITY_PAGE, security_tables())):
        _page.write_text(written(_page.read_text(encoding="utf-8"), _derived), encoding="utf-8")
