"""The OpenFeature provider: evaluates adjustable settings and flags from memory.

The evaluation context of a flag: `targeting_key`, and the attributes `station`, `organisation` and `role`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, FlagNotFoundError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.flag_evaluation import Reason as OpenFeatureReason
from openfeature.provider import AbstractProvider, Metadata

from kit.config.flags import DecidedBy, FlagSubject
from kit.config.values import Resolved

T = TypeVar("T", bool, int, float, str)

_REASONS: Final = {
    DecidedBy.DISABLED: OpenFeatureReason.DISABLED,
    DecidedBy.EXCEPTED: OpenFeatureReason.TARGETING_MATCH,
    DecidedBy.TARGETED: OpenFeatureReason.TARGETING_MATCH,
    DecidedBy.EVERYONE: OpenFeatureReason.STATIC,
    DecidedBy.SHARE: OpenFeatureReason.SPLIT,
}


def context_of(subject: FlagSubject) -> EvaluationContext:
    """The subject as OpenFeature has it."""
    attributes = {"station": subject.station_id, "organisation": subject.organisation, "role": subject.role}
    return EvaluationContext(
        targeting_key=subject.targeting_key or None,
        attributes={name: text for name, text in attributes.items() if text},
    )


def subject_of(context: EvaluationContext | None) -> FlagSubject:
    """The subject of an evaluation context."""
    if context is None:
        return FlagSubject()
    attributes = context.attributes
    return FlagSubject(
        station_id=str(attributes.get("station", "")).upper(),
        organisation=str(attributes.get("organisation", "")),
        role=str(attributes.get("role", "")),
        key=context.targeting_key or "",
    )


class ConfigProvider(AbstractProvider):
    """Reads what `resolved` returns: of each setting its value or rule."""

    def __init__(self, resolved: Callable[[], Mapping[str, Resolved]]) -> None:
        super().__init__()
        self._resolved = resolved
        self._is_stale = False

    def get_metadata(self) -> Metadata:
        """See OpenFeature."""
        return Metadata(name="voltstream")

    def changed(self, names: Sequence[str]) -> None:
        """Tell the handlers of OpenFeature's events that these settings changed."""
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=list(names)))

    def stale(self, reason: str) -> None:
        """Tell them that the last known values may be old; empty: no longer."""
        if bool(reason) == self._is_stale:
            return
        self._is_stale = bool(reason)
        details = ProviderEventDetails(message=reason or None)
        if reason:
            self.emit_provider_stale(details)
        else:
            self.emit_provider_ready(details)

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """See OpenFeature."""
        found = self._found(flag_key)
        if found.rule is None:
            return _details(found, bool, default_value)
        value, reason = found.rule.decide(flag_key, subject_of(evaluation_context))
        return FlagResolutionDetails(value, reason=_REASONS[reason], flag_metadata=_metadata(found))

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """See OpenFeature."""
        return _details(self._found(flag_key), int, default_value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """See OpenFeature."""
        return _details(self._found(flag_key), float, default_value)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """See OpenFeature."""
        return _details(self._found(flag_key), str, default_value)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Any]:
        """No setting is an object."""
        self._found(flag_key)
        return FlagResolutionDetails(
            default_value, error_code=ErrorCode.TYPE_MISMATCH, error_message="no setting is an object"
        )

    def _found(self, flag_key: str) -> Resolved:
        found = self._resolved().get(flag_key)
        if found is None:
            raise FlagNotFoundError(f"there is no setting {flag_key}")
        return found


def _details(found: Resolved, kind: type[T], default: T) -> FlagResolutionDetails[T]:
    if type(found.value) is not kind:
        message = f"it is of type {type(found.value).__name__}"
        return FlagResolutionDetails(default, error_code=ErrorCode.TYPE_MISMATCH, error_message=message)
    reason = OpenFeatureReason.DEFAULT if found.source == "default" else OpenFeatureReason.STATIC
    return FlagResolutionDetails(found.value, reason=reason, flag_metadata=_metadata(found))


def _metadata(found: Resolved) -> dict[str, bool | int | float | str]:
    return {"source": found.source, "version": found.version}
