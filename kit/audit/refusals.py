"""Refused requests, counted by who, where and what within a minute: nobody fills a disk by being refused.

In a minute a process keeps two entries of each kind at most (the first, and the number of the others), of a bounded
number of kinds: 2 * (KINDS_MAX + STRANGERS_MAX) entries of ~300 B are 0.6 MB in the worst minute, and what strangers
can cause is 60 kB. Beyond, requests are counted together, without their address.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from kit.audit.entry import ANONYMOUS, Entry

KINDS_MAX: Final = 900  # of those with a token that is known
STRANGERS_MAX: Final = 100
LINES_MAX: Final = 10  # log lines of a kind within a minute

_Kind = tuple[str, str, str | None, str | None, int | None]


class Seen(NamedTuple):
    """What is to be done with a refused request beside counting it."""

    is_first: bool  # of its kind within this minute
    is_logged: bool


@dataclass(slots=True)
class _Count:
    entry: Entry  # the second, whose ids stand for the others
    requests: int = 0  # but for the first


class RefusalCounts:
    """The refused requests of a minute. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[_Kind, _Count] = {}
        self._strangers: dict[_Kind, _Count] = {}
        self._others: dict[tuple[bool, int | None], _Count] = {}

    def add(self, entry: Entry) -> Seen:
        """Count one."""
        strange = entry.actor == ANONYMOUS
        counts, most = (self._strangers, STRANGERS_MAX) if strange else (self._known, KINDS_MAX)
        kind = (entry.actor, entry.address, entry.method, entry.endpoint, entry.status)
        count = counts.get(kind)
        if count is None:
            if len(counts) < most:
                counts[kind] = _Count(entry)
                return Seen(is_first=True, is_logged=True)
            count = self._others.setdefault((strange, entry.status), _Count(_nameless(entry)))
            count.requests += 1
            return Seen(is_first=False, is_logged=False)
        count.requests += 1
        if count.requests == 1:
            count.entry = entry
        return Seen(is_first=False, is_logged=count.requests < LINES_MAX)

    def take(self) -> Iterator[Entry]:
        """An entry for each kind that had more than its first, and begin anew."""
        counted = [*self._known.values(), *self._strangers.values(), *self._others.values()]
        self._known, self._strangers, self._others = {}, {}, {}
        for count in counted:
            if count.requests:
                yield msgspec.structs.replace(count.entry, requests=count.requests)


def _nameless(entry: Entry) -> Entry:
    """Of requests of many kinds: what they have in common."""
    return msgspec.structs.replace(
        entry,
        actor=ANONYMOUS if entry.actor == ANONYMOUS else "many",
        role="",
        token="",
        token_id=None,
        address="",
        correlation_id="",
        method=None,
        endpoint=None,
        duration_us=None,
    )
