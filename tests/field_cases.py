"""What devices and tariffs really do: small inputs and the outcome that the rules demand (docs/adr/0009 and 0014).

Of ../shared/data/field, if that is beside the checkout, and more of the same kinds in streams/field_more.json, whose
readings are of connector 1 and whose tariff is 0.40 a kWh where they say nothing else.
"""

import json
from pathlib import Path
from typing import Any, Final

Case = dict[str, Any]

_SHARED: Final = Path(__file__).parents[2] / "shared" / "data" / "field" / "cases.json"
_MORE: Final = Path(__file__).parent / "streams" / "field_more.json"
_TARIFF: Final = {
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.4, "vat": 19, "step_size": 1}]}],
}


def _posted(file: Path) -> list[Case]:
    cases: list[Case] = json.loads(file.read_text(encoding="utf-8"))["posted"] if file.exists() else []
    return [
        {"tariff": _TARIFF} | case | {"posts": [[{"connector_id": 1} | r for r in post] for post in case["posts"]]}
        for case in cases
    ]


CASES: Final[dict[str, Case]] = {case["name"]: case for file in (_SHARED, _MORE) for case in _posted(file)}


def session_faults(want: dict[str, Any], session: dict[str, Any]) -> list[str]:
    """What of a session is not as expected. It may be held for more reasons than the case asks for."""
    names = ("session_id", "energy_wh", "energy_export_wh", "state", "end_reason", "cost_excl_vat", "cost_incl_vat")
    faults = [
        f"{name} of session {session['session_id']}: {session[name]}, expected {want[name]}"
        for name in names
        if name in want and session[name] != want[name]
    ]
    if missing := set(want.get("held", ())) - set(session["held"]):
        faults.append(f"session {session['session_id']} is held for {session['held']}, not for {missing}")
    return faults
