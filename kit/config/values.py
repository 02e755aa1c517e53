"""What a setting is, and where that is from. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kit.config.adjustable import Adjustable, Scalar
from kit.config.flags import FlagRule

Source = Literal["default", "file", "service", "flag"]
"""`file`: environment, TOML or a folder of files; `service`, `flag`: a value or a rule set at the config service."""


@dataclass(frozen=True, slots=True)
class ConfigSnapshot:
    """All that operators have set at the config service, at one revision: of each setting `{"value": …}` or
    `{"rule": …}`, and its `version`."""

    revision: int = 0
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_change(self, name: str, document: Mapping[str, Any] | None) -> "ConfigSnapshot":
        """The same with another document of one setting; None: back at its default."""
        others = {key: value for key, value in self.documents.items() if key != name}
        return ConfigSnapshot(self.revision + 1, others if document is None else {**others, name: document})


EMPTY: Final = ConfigSnapshot()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A setting's value. Of a flag with a rule, what it is for a subject that nothing names."""

    value: Scalar
    source: Source
    version: int = 0  # of the config service's; 0: not from there
    rule: FlagRule | None = None


def resolve(one: Adjustable, static: Scalar, in_folder: Scalar | FlagRule | None, snapshot: ConfigSnapshot) -> Resolved:
    """Of the sources the last that has it. `static`: as the process was started. Raises ValueError where the config
    service's document is not one of this setting."""
    document = snapshot.documents.get(one.name)
    if document is not None:
        version = int(document.get("version", 0))
        if one.is_flag:
            rule = one.rule_from_json(document.get("rule"))
            return Resolved(_for_all(rule), "flag", version, rule)
        return Resolved(one.from_json(document.get("value")), "service", version)
    if isinstance(in_folder, FlagRule):
        return Resolved(_for_all(in_folder), "file", 0, in_folder)
    if in_folder is not None:
        return Resolved(in_folder, "file")
    return Resolved(static, "default" if static == one.default else "file")


def rule_of(resolved: Resolved) -> FlagRule:
    """A flag's rule; where nobody set one, its value for everyone."""
    return resolved.rule or FlagRule(enabled=bool(resolved.value))


def _for_all(rule: FlagRule) -> bool:
    return rule.enabled and rule.percentage == 100
