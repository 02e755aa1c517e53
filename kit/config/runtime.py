"""The configuration of a running process: the settings it started with, and what has been changed since.

Sources, later ones win: the default; the file (environment, TOML, or a folder of files, see kit/config/folder.py); the
config service, where operators set values and flags. What was read last stays in force while a source is away.

Reading is by attribute of an object that is made again with each change, so it costs nothing:

    config.group(BillingSettings).invoice_settle_s
    config.enabled("pricing.demand", FlagSubject(station_id="DE-1"))

Both are evaluated by OpenFeature with the provider of this process (kit/config/provider.py); `client` is for anything
else that knows OpenFeature. Changes are applied in the event loop; reading is safe in every thread.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final, TypeVar, cast

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.provider.no_op_provider import NoOpProvider
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from kit.config.adjustable import Adjustable, Scalar, adjustables_of, groups_with
from kit.config.flags import FlagRule, FlagSubject
from kit.config.provider import ConfigProvider, context_of
from kit.config.values import EMPTY, ConfigSnapshot, Resolved, resolve
from kit.messaging.gate import Gate
from kit.observability.logs import get_logger
from kit.settings import Settings
from kit.spelling import did_you_mean

G = TypeVar("G", bound=BaseModel)
FolderValues = Mapping[str, Scalar | FlagRule]

_numbers: Final = count(1)  # of OpenFeature's domains: one each
_log = get_logger(__name__)


class RuntimeConfig:
    """One a process. `owners`: the services that read a field of the settings, its owner first."""

    def __init__(self, settings: Settings, owners: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.adjustables: Mapping[str, Adjustable] = adjustables_of(type(settings))
        self.owners = owners or {}
        self.snapshot: ConfigSnapshot = EMPTY
        self._settings = settings
        self._groups: list[type[BaseModel]] = [
            base
            for base in type(settings).__bases__
            if issubclass(base, BaseModel) and not issubclass(base, BaseSettings)
        ]
        self._folder: FolderValues = {}
        self._resolved: dict[str, Resolved] = {}
        self._current: dict[type[BaseModel], BaseModel] = dict.fromkeys(self._groups, settings)
        self._gates: dict[str, Gate] = {}
        self._domain = f"voltstream {next(_numbers)}"
        self._provider = ConfigProvider(lambda: self._resolved)
        api.set_provider_and_wait(self._provider, self._domain)
        self.client: OpenFeatureClient = api.get_client(self._domain)
        self._resolve_all()

    def close(self) -> None:
        """Leave OpenFeature. Values stay as they are."""
        api.set_provider_and_wait(NoOpProvider(), self._domain)

    # -- reading ----------------------------------------------------------------------------------------------------

    def group(self, kind: type[G]) -> G:
        """The settings of a group as they are now: a new object after each change of one of them, else the same."""
        return cast(G, self._current[kind])

    def enabled(self, name: str, subject: FlagSubject) -> bool:
        """Whether the flag is on for the subject."""
        default = bool(self.adjustable(name).default)
        return self.client.get_boolean_value(name, default, context_of(subject))

    def resolved(self, name: str) -> Resolved:
        """A setting's value and where it is from. Raises KeyError that says which there are."""
        return self._resolved[self.adjustable(name).name]

    def adjustable(self, name: str) -> Adjustable:
        """A setting's declaration. Raises KeyError that says which there are."""
        found = self.adjustables.get(name)
        if found is None:
            raise KeyError(f"there is no setting {name[:64]}{did_you_mean(name, self.adjustables)}")
        return found

    def used_by(self, name: str) -> tuple[str, ...]:
        """The services that read it, its owner first."""
        return self.owners.get(self.adjustable(name).field, ())

    def gate(self, name: str) -> Gate:
        """Closed while that setting, a boolean, is true: `billing.paused`."""
        self.adjustable(name)
        if name not in self._gates:
            self._gates[name] = Gate(is_open=not self._resolved[name].value)
        return self._gates[name]

    # -- what would be ----------------------------------------------------------------------------------------------

    def would_be(self, snapshot: ConfigSnapshot) -> Mapping[str, Resolved]:
        """Every setting by that snapshot of the config service."""
        return {name: self._resolve(one, snapshot) for name, one in self.adjustables.items()}

    def check(self, name: str, resolved: Mapping[str, Resolved]) -> None:
        """Whether the groups that have this setting allow these values together. Raises ValueError."""
        for kind in groups_with(self.adjustable(name).field, self._groups):
            try:
                kind.model_validate(self._values_of(kind, lambda one: resolved[one.name].value))
            except ValidationError as error:
                reasons = [str(item["msg"]).removeprefix("Value error, ") for item in error.errors(include_url=False)]
                raise ValueError("; ".join(reasons)) from None

    # -- changing ---------------------------------------------------------------------------------------------------

    def apply_snapshot(self, snapshot: ConfigSnapshot) -> list[str]:
        """Take over what the config service has now; the names of settings that changed.

        Whatever its revision is: a database that went back (a restore, a standby without the last commits) has a lower
        one, and later gives the same ones to other changes. So the caller reads one after the other.
        """
        self.snapshot = snapshot
        return self._resolve_all()

    def apply_folder(self, values: FolderValues) -> list[str]:
        """Take over what the files have now; the names of settings that changed."""
        self._folder = values
        return self._resolve_all()

    def stale(self, reason: str) -> None:
        """Tell OpenFeature that the config service does not answer: the last values stay."""
        self._provider.stale(reason)

    def _resolve_all(self) -> list[str]:
        before = self._resolved
        self._resolved = {name: self._resolve(one, self.snapshot) for name, one in self.adjustables.items()}
        changed = [name for name, now in self._resolved.items() if before.get(name) != now]
        if not changed:
            return []
        for kind, current in self._current.items():
            made = self._made(kind)
            if made is not None and made != current:
                self._current[kind] = made
        for name, gate in self._gates.items():
            gate.set(is_open=not self._resolved[name].value)
        if before:
            _log.info("config_changed", revision=self.snapshot.revision, settings=changed)
        self._provider.changed(changed)
        return changed

    def _resolve(self, one: Adjustable, snapshot: ConfigSnapshot) -> Resolved:
        try:
            return resolve(one, getattr(self._settings, one.field), self._folder.get(one.name), snapshot)
        except ValueError as error:  # written by another version of this software: the last good value stays
            _log.error("config_value_refused", setting=one.name, error=str(error))
            return self._resolved.get(one.name) or resolve(
                one, getattr(self._settings, one.field), self._folder.get(one.name), EMPTY
            )

    def _made(self, kind: type[G]) -> G | None:
        """The group by OpenFeature; None where its values do not fit together: then the last one stays."""
        try:
            return kind.model_validate(self._values_of(kind, self._evaluated))
        except ValidationError as error:
            _log.error("config_group_refused", group=kind.__name__, error=str(error))
            return None

    def _values_of(self, kind: type[BaseModel], value_of: Callable[[Adjustable], Any]) -> dict[str, Any]:
        values = {field: getattr(self._settings, field) for field in kind.model_fields}
        own = [one for one in self.adjustables.values() if one.field in values and not one.is_flag]
        return {**values, **{one.field: value_of(one) for one in own}}

    def _evaluated(self, one: Adjustable) -> Scalar:
        evaluate: dict[str, Callable[[str, Any], Any]] = {
            "boolean": self.client.get_boolean_value,
            "integer": self.client.get_integer_value,
            "number": self.client.get_float_value,
            "string": self.client.get_string_value,
        }
        found: Scalar = evaluate[one.type](one.name, getattr(self._settings, one.field))
        return found
