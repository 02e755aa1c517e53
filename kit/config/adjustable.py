"""Adjustable settings: fields of a settings group that operators may change while processes run.

A group declares one as it declares any setting, once; type, bounds, default and description are those of the field:

    invoice_settle_s: int = Field(60, ge=0, json_schema_extra=adjustable("billing.settle_time", unit="s"), …)

A flag is a bool that may differ from one station, role or organisation to the next (kit/config/flags.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from kit.config.flags import FlagRule

_EXTRA: Final = "adjustable"
JsonType = Literal["boolean", "integer", "number", "string"]
_TYPES: Final[dict[Any, JsonType]] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern")

Scalar = bool | int | float | str


def adjustable(name: str, *, unit: str = "", flag: bool = False, finance: bool = False) -> JsonDict:
    """`json_schema_extra` of such a field. `name`: domain.what, as operators and OpenFeature know it; `finance`: people
    of finance may see it too."""
    return {_EXTRA: {"name": name, "unit": unit, "flag": flag, "finance": finance}}


@dataclass(frozen=True, slots=True)
class Adjustable:
    """An adjustable setting."""

    name: str
    field: str  # of the settings
    type: JsonType
    unit: str
    is_flag: bool
    for_finance: bool
    default: Scalar
    bounds: Mapping[str, Any]  # as JSON Schema names them
    description: str
    adapter: TypeAdapter[Any]

    def from_json(self, value: object) -> Scalar:
        """The value of a JSON document. Raises ValueError that says what to write instead."""
        return self._checked(value, strict=True)

    def from_text(self, text: str) -> Scalar:
        """The value in a file or on a command line. Raises ValueError, as `from_json`."""
        return self._checked(text.strip(), strict=False)

    def rule_from_json(self, document: object) -> FlagRule:
        """A flag's rule. Raises ValueError."""
        try:
            return FlagRule.model_validate(document)
        except ValidationError as error:
            raise ValueError(f"{self.name}: {_explained(error)}") from None

    def rule_from_text(self, text: str) -> FlagRule:
        """A flag's rule in a file: its JSON, or true or false for everyone. Raises ValueError."""
        if text.lstrip().startswith("{"):
            try:
                return FlagRule.model_validate_json(text)
            except ValidationError as error:
                raise ValueError(f"{self.name}: {_explained(error)}") from None
        return FlagRule(enabled=bool(self.from_text(text)))

    def _checked(self, value: object, *, strict: bool) -> Scalar:
        try:
            found: Scalar = self.adapter.validate_python(value, strict=strict)
        except ValidationError as error:
            unit = f", in {self.unit}" if self.unit else ""
            raise ValueError(f"{self.name}: {_explained(error)} ({self.description}{unit})") from None
        return found


def adjustables_of(settings: type[BaseModel]) -> dict[str, Adjustable]:
    """The adjustable settings among these fields, by name. Raises TypeError where a declaration is not usable."""
    found: dict[str, Adjustable] = {}
    for field, info in settings.model_fields.items():
        extra = info.json_schema_extra
        declared = extra.get(_EXTRA) if isinstance(extra, dict) else None
        if not isinstance(declared, dict):
            continue
        one = _adjustable(field, info, declared)
        if one.name in found:
            raise TypeError(f"{field} and {found[one.name].field} are both called {one.name}")
        found[one.name] = one
    return found


def groups_with(field: str, groups: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """The settings groups that have this field."""
    return [group for group in groups if field in group.model_fields]


def _adjustable(field: str, info: FieldInfo, declared: Mapping[str, Any]) -> Adjustable:
    annotation: Any = info.annotation
    if annotation not in _TYPES or (declared.get("flag") and annotation is not bool):
        raise TypeError(f"the setting {field} cannot be adjustable: it is no {', '.join(_TYPES.values())}")
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(annotation, *info.metadata)] if info.metadata else annotation)
    schema = adapter.json_schema()
    return Adjustable(
        name=declared["name"],
        field=field,
        type=_TYPES[annotation],
        unit=declared.get("unit", ""),
        is_flag=declared.get("flag", False),
        for_finance=declared.get("finance", False),
        default=info.default,
        bounds={bound: schema[bound] for bound in _BOUNDS if bound in schema},
        description=info.description or "",
        adapter=adapter,
    )


def _explained(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = "".join(f"{part}: " for part in first["loc"])
    return place + str(first["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
