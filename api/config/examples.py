"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

NEW_VALUE: Final[dict[str, Any]] = {
    "name": "billing.settle_time",
    "value": 120,
    "version": 0,
    "reason": "late readings of site Nord",
}
SETTING_BEFORE: Final[dict[str, Any]] = {
    "name": "billing.settle_time",
    "kind": "value",
    "type": "integer",
    "unit": "s",
    "bounds": {"minimum": 0, "maximum": 86_400},
    "default": 60,
    "value": 60,
    "rule": None,
    "source": "default",
    "version": 0,
    "owner": "billing",
    "used_by": ["billing"],
    "description": "a charge is invoiced so long after its last revision; 0: at once",
    "changed_at": None,
    "changed_by": None,
    "reason": None,
}
SETTING: Final[dict[str, Any]] = {
    **SETTING_BEFORE,
    "value": 120,
    "source": "service",
    "version": 1,
    "changed_at": "2026-03-29T09:00:00Z",
    "changed_by": "operator/6f1d2f0e-8a3f-4f0e-9c1e-2b6f6f1f7d11",
    "reason": "late readings of site Nord",
}
SETTINGS: Final[dict[str, Any]] = {"revision": 1, "settings": [SETTING]}
CHANGE: Final[dict[str, Any]] = {
    "dry_run": False,
    "changes": True,
    "before": SETTING_BEFORE,
    "after": SETTING,
    "touches": ["billing"],
    "stations": None,
}
RULE: Final[dict[str, Any]] = {
    "enabled": True,
    "percentage": "10.00",
    "targets": {"stations": ["DE-VS-0001"], "organisations": [], "roles": []},
    "excepted": {"stations": [], "organisations": [], "roles": []},
}
NEW_RULE: Final[dict[str, Any]] = {
    "name": "pricing.demand",
    "rule": RULE,
    "version": 0,
    "reason": "a tenth of the stations, to begin with",
}
FLAG_BEFORE: Final[dict[str, Any]] = {
    **SETTING_BEFORE,
    "name": "pricing.demand",
    "kind": "flag",
    "type": "boolean",
    "unit": "",
    "bounds": {},
    "default": True,
    "value": True,
    "owner": "pricing",
    "used_by": ["pricing"],
    "description": "whether demand rules move prices; off: at the base price",
}
FLAG: Final[dict[str, Any]] = {
    **FLAG_BEFORE,
    "value": False,
    "rule": RULE,
    "source": "flag",
    "version": 1,
    "changed_at": "2026-03-29T09:00:00Z",
    "changed_by": SETTING["changed_by"],
    "reason": NEW_RULE["reason"],
}
FLAGS: Final[dict[str, Any]] = {"revision": 2, "settings": [FLAG]}
RULE_CHANGE: Final[dict[str, Any]] = {
    "dry_run": True,
    "changes": True,
    "before": FLAG_BEFORE,
    "after": FLAG,
    "touches": ["pricing"],
    "stations": {"looked_at": 200, "turned_on": 0, "turned_off": 181, "examples": ["DE-VS-0002"]},
}
HISTORY: Final[dict[str, Any]] = {
    "changes": [
        {
            "revision": 1,
            "name": "billing.settle_time",
            "version": 1,
            "before": None,
            "after": {"value": 120},
            "changed_at": SETTING["changed_at"],
            "changed_by": SETTING["changed_by"],
            "reason": SETTING["reason"],
        }
    ],
    "next": None,
}
