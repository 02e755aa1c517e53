"""Requests and responses of the config service, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, StringConstraints

from kit.config.adjustable import JsonType
from kit.config.flags import FlagRule
from kit.config.values import Source
from kit.patterns import worded
from schemas.identifiers import PRINTABLE

VERSION_MAX: Final = 2**31 - 1
Value = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, StringConstraints(max_length=4_096)]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=PRINTABLE),
    Field(description="why, for whoever reads the history"),
]
Version = Annotated[
    int,
    Field(
        strict=True, ge=0, le=VERSION_MAX, description="the setting's version when you read it; 0: nobody ever set it"
    ),
]
Name = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=64,
        pattern=worded(
            r"^[a-z0-9_.]+$", "a name of small letters, digits, points and underscores, like billing.paused"
        ),
    ),
]


class ConfigModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewValue(ConfigModel):
    """A value to be set."""

    name: Name
    value: Value
    version: Version
    reason: Reason


class NewRule(ConfigModel):
    """A flag's rule to be set."""

    name: Name
    rule: FlagRule
    version: Version
    reason: Reason


class Setting(ConfigModel):
    """A setting: its declaration, its value and where that is from."""

    name: str
    kind: Literal["value", "flag"]
    type: JsonType
    unit: str = Field(description="of the value; empty where it has none")
    bounds: dict[str, Any] = Field(description="as JSON Schema names them: minimum, maximum, …")
    default: Value
    value: Value = Field(description="in force; of a flag with a rule, for a subject that the rule does not name")
    rule: FlagRule | None = Field(default=None, description="of a flag, where somebody set one")
    source: Source = Field(
        description="where the value is from: default; file (environment, TOML or folder); service, flag (set here)"
    )
    version: int = Field(description="for the next change; 0: nobody ever set it here")
    owner: str = Field(description="the service that it belongs to")
    used_by: list[str] = Field(description="services that it takes effect in")
    description: str
    changed_at: datetime | None = Field(default=None, description="of the last change here")
    changed_by: str | None = None
    reason: str | None = None


class SettingList(ConfigModel):
    """Settings by name."""

    revision: int = Field(description="of the whole configuration; it rises with each change")
    settings: list[Setting]


class StationsTouched(ConfigModel):
    """Registered stations for which a flag would be another."""

    looked_at: int
    turned_on: int
    turned_off: int
    examples: list[str] = Field(description="some of them")


class ConfigChange(ConfigModel):
    """A change of a setting, made or, in a dry run, not."""

    dry_run: bool
    changes: bool = Field(description="whether anything is another value than before")
    before: Setting
    after: Setting
    touches: list[str] = Field(description="services that it takes effect in, within a second")
    stations: StationsTouched | None = Field(default=None, description="in a dry run of a flag")


class HistoryEntry(ConfigModel):
    """A change that was made: who, why, when, from what to what."""

    revision: int
    name: str
    version: int
    before: dict[str, Any] | None = Field(description='{"value": …} or {"rule": …}; null: at its default')
    after: dict[str, Any] | None = Field(description="the same; null: back at its default")
    changed_at: datetime
    changed_by: str
    reason: str


class ConfigHistory(ConfigModel):
    """A page of changes, newest first."""

    changes: list[HistoryEntry]
    next: str | None = Field(description="address of the next page; null on the last")
