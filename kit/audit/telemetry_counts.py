"""Requests with readings, counted by token and minute: one update of a dictionary each."""

from typing import Final, NamedTuple
from uuid import UUID

from kit.audit.actors import KnownActor

# That a process counts by themselves in a minute, as many as its authenticator remembers; 24 B each in the database.
TOKENS_MAX: Final = 20_000


class Counted(NamedTuple):
    """The requests of a minute: of each token, and of those beyond TOKENS_MAX together."""

    requests: dict[UUID, int]
    others: int


class TelemetryCounts:
    """The requests of a minute. Not thread-safe."""

    def __init__(self) -> None:
        # By the identity of the principal, which the authenticator keeps: a UUID takes four times as long to hash. The
        # principal is kept with its count, so that no other gets its identity.
        self._counts: dict[int, list[KnownActor | int]] = {}
        self._others = 0

    def count(self, principal: KnownActor) -> None:
        """Count a request of this token."""
        count = self._counts.get(id(principal))
        if count is None:
            self._begin(principal)
        else:
            count[1] += 1  # type: ignore[operator]  # a list, because nothing is cheaper to change

    def _begin(self, principal: KnownActor) -> None:
        if len(self._counts) < TOKENS_MAX:
            self._counts[id(principal)] = [principal, 1]
        else:
            self._others += 1

    def take(self) -> Counted:
        """What was counted since the last call."""
        counts, others = self._counts, self._others
        self._counts, self._others = {}, 0
        requests: dict[UUID, int] = {}
        for principal, number in counts.values():
            token_id = principal.token_id  # type: ignore[union-attr]
            requests[token_id] = requests.get(token_id, 0) + number  # type: ignore[operator]
        return Counted(requests, others)
