"""The JSON Schema of the umbrella's values: a misspelt setting, secret or service is refused at once."""

from typing import Any, Final

from kit.config.adjustable import adjustables_of
from voltstream.settings import settings_type

_KEPT: Final = (
    "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
    "items", "anyOf", "maxItems",
)  # fmt: skip
_NAME: Final = {"type": "string", "pattern": "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"}
_OBJECT: Final = {"type": "object"}
_TEXT: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer", "minimum": 1}
_QUANTITIES: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["requests", "limits"],
    "properties": {part: {"type": "object", "required": ["cpu", "memory"]} for part in ("requests", "limits")},
}
_AUTOSCALING: Final = {
    "enabled": {"type": "boolean"},
    "max": _WHOLE,
    "cpuPercent": {"type": "integer", "minimum": 10, "maximum": 95},
    "queuedEvents": {"type": "integer", "minimum": 0},
    "waitingFrames": {"type": "integer", "minimum": 0},
    "lagRecords": {"type": "integer", "minimum": 0},
}


def values_schema(facts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of the umbrella's values, for charts with these facts."""
    described = settings_type().model_json_schema()["properties"]
    settings = {name for its in facts.values() for name in its["settings"]}
    secrets = {name for its in facts.values() for name in (*its["connects"], *its["optionalSecrets"])}
    files = {name for its in facts.values() for name in its["files"]}
    shared = {
        "settings": {"$ref": "#/$defs/settings"},
        "adjustables": _closed({name: _OBJECT | {"type": ["string", "number", "boolean"]} for name in _adjustables()}),
        "secrets": _closed({"create": {"type": "boolean"}, "values": _closed(dict.fromkeys(sorted(secrets), _TEXT))}),
        "files": _closed(dict.fromkeys(sorted(files), _file())),
        "namespaces": _closed({"default": _NAME, "of": _closed(dict.fromkeys(facts, _NAME))}),
        "image": _closed({"repository": _TEXT, "tag": _TEXT, "digest": _TEXT, "pullPolicy": _TEXT}),
    }
    charts = {name: _of_chart(its) for name, its in facts.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"settings": _closed({name: _of_setting(described[name]) for name in sorted(settings)})},
        "type": "object",
        "additionalProperties": False,
        "properties": {"global": {"type": "object", "properties": shared}, _LIBRARY: _OBJECT, **charts},
    }


_LIBRARY: Final = "library"


def _of_chart(its: dict[str, Any]) -> dict[str, Any]:
    optional = its["optionalSecrets"]
    secrets = sorted({*its["connects"], *optional, *(["token"] if "tokenVariable" in its else [])})
    properties: dict[str, Any] = {
        "facts": _OBJECT,
        "global": _OBJECT,
        "enabled": {"type": "boolean"},
        "replicas": {"type": "integer", "minimum": 0},
        "resources": _QUANTITIES,
        "autoscaling": _closed(_AUTOSCALING),
        "settings": _settings(its["settings"]),
        "secrets": _closed(
            {
                "existing": _NAME,
                "optional": _some_of(optional),
                "values": _closed(dict.fromkeys(secrets, _TEXT)),
            }
        ),
        "files": _closed(dict.fromkeys(its["files"], _file())),
        "podAnnotations": _OBJECT,
        "nodeSelector": _OBJECT,
        "tolerations": {"type": "array"},
        "priorityClassName": _NAME,
    }
    if "tokenVariable" in its:
        properties |= {"schedule": _TEXT, "arguments": {"type": "array", "items": _TEXT}}
    return _closed(properties)


def _some_of(names: list[str]) -> dict[str, Any]:
    return (
        {"type": "array", "uniqueItems": True, "items": {"enum": names}} if names else {"type": "array", "maxItems": 0}
    )


def _file() -> dict[str, Any]:
    found = _closed({"secret": _NAME, "configMap": _NAME, "key": _TEXT})
    return {**found, "required": ["key"], "oneOf": [{"required": ["secret"]}, {"required": ["configMap"]}]}


def _settings(names: list[str]) -> dict[str, Any]:
    return {"$ref": "#/$defs/settings", "propertyNames": {"enum": names}}


def _of_setting(described: dict[str, Any]) -> dict[str, Any]:
    """What pydantic says of a setting, without what an editor of values need not know."""
    found = {key: described[key] for key in _KEPT if key in described and "$ref" not in str(described[key])}
    return found | ({"description": described["description"]} if "description" in described else {})


def _adjustables() -> list[str]:
    return sorted(adjustables_of(settings_type()))


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}
