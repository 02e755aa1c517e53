"""How long stored tokens are valid: from their issue, and without being used.

Devices' tokens have no such bounds: a charger in the field cannot ask for another one, and may be without power for a
season. `--expires` ends one all the same.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kit.auth.scopes import Kind
from kit.settings import Settings


class LifetimeTooLong(ValueError):
    """A token was to be valid for longer than any may be. The message says how long that is."""


@dataclass(frozen=True, slots=True)
class TokenLifetimes:
    """The bounds of the tokens of people and services; None: there is none."""

    issued_max: timedelta | None = None  # from the issue or the last rotation until the expiry
    unused_max: timedelta | None = None

    @classmethod
    def of(cls, settings: Settings) -> "TokenLifetimes":
        """Those that the settings say."""
        return cls(_days(settings.token_lifetime_days_max), _days(settings.token_idle_days_max))

    def expiry(self, kind: Kind, now: datetime, wanted: datetime | None) -> datetime | None:
        """When a token that is issued now expires: as wanted, else as late as it may. Raises LifetimeTooLong."""
        latest = self._latest(kind, now)
        if wanted is not None and latest is not None and wanted > latest:
            days = (latest - now).days
            raise LifetimeTooLong(f"a token of kind {kind} is valid for {days} days at most (TOKEN_LIFETIME_DAYS_MAX)")
        return latest if wanted is None else wanted

    def renewed(self, kind: Kind, now: datetime, before: datetime | None) -> datetime | None:
        """When a token that is rotated now expires: as before, but no later than it may."""
        latest = self._latest(kind, now)
        return before if latest is None else latest if before is None else min(before, latest)

    def is_idle(self, kind: Kind, now: datetime, unused_since: datetime) -> bool:
        """Whether it is over because nobody used it."""
        return kind != "device" and self.unused_max is not None and unused_since <= now - self.unused_max

    def _latest(self, kind: Kind, now: datetime) -> datetime | None:
        return None if kind == "device" or self.issued_max is None else now + self.issued_max


UNBOUNDED: Final = TokenLifetimes()


def _days(days: int) -> timedelta | None:
    return timedelta(days=days) if days else None
