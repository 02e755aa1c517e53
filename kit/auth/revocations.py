"""Which signed tokens are revoked, as a process keeps it in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class SignedRevocations:
    """Revoked ids, and for subjects the moment before which their tokens must have been issued to be revoked."""

    fingerprint: int = 0  # of the rows that it was made of
    token_ids: frozenset[str] = frozenset()
    issued_before_ms: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[tuple[str | None, str | None, int | None]], fingerprint: int = 0) -> "SignedRevocations":
        """Of (id, subject, moment) as they are stored; of a subject the latest moment counts."""
        rows = list(rows)
        before: dict[str, int] = {}
        for _, subject, moment_ms in rows:
            if subject is not None and moment_ms is not None:
                before[subject] = max(moment_ms, before.get(subject, moment_ms))
        return cls(fingerprint, frozenset(jti for jti, _, _ in rows if jti is not None), before)

    def revoke(self, token_id: str | None, subject: str, issued_s: float | None) -> bool:
        """Whether they revoke this token. One that does not say when it was issued counts as issued long ago."""
        if token_id is not None and token_id in self.token_ids:
            return True
        before_ms = self.issued_before_ms.get(subject)
        return before_ms is not None and (issued_s is None or issued_s * 1000 < before_ms)


NONE_REVOKED: Final = SignedRevocations()
