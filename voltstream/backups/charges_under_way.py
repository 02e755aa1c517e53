"""Charges that do not agree, and those of which billing only does not have the last event yet.

On a running platform sessions, CDRs and readings are read one after the other, and an event takes its time from the
outbox to billing. So what does not agree is looked at again, until it agrees, stays as it is, or has had its time.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from billing.reconcile import Drift, Finding, Report
from kit.clock import Clock
from voltstream.backups.progress import Progress

# From the outbox to a CDR it is a second or two, and 30 s where a relay or billing is restarted.
WITHIN_S: Final = 60.0
_PAUSE_S: Final = 2.0  # between two looks
_FIGURES_S: Final = 3 * _PAUSE_S  # more, for figures that were seen once


@dataclass(frozen=True, slots=True)
class EventsUnderWay:
    """What billing cannot have at this moment."""

    waiting: set[str]  # ids of sessions whose event is in the outbox
    paused: bool  # billing leaves events in their queue

    def explain(self, drift: Drift) -> bool:
        """Whether no more than an event is missing, and it is under way."""
        return drift.behind and (self.paused or str(drift.subject_id) in self.waiting)


@dataclass(frozen=True, slots=True)
class SettledDrifts:
    """The result: what is wrong, and how many charges wait for an event."""

    wrong: list[Drift]
    wrong_unlisted: int
    to_come: int


class DriftFollower:
    """Looks again at the drifts of a report, whose outcomes it corrects."""

    def __init__(
        self,
        report: Report,
        under_way: Callable[[], Awaitable[EventsUnderWay]],
        again: Callable[[Sequence[UUID]], Awaitable[Report]],
        clock: Clock,
        pause: Callable[[float], Awaitable[None]],
        progress: Progress,
    ) -> None:
        """`again`: a report of these subjects alone; `pause`: sleeps so many seconds of the clock."""
        self._report = report
        self._under_way = under_way
        self._again = again
        self._clock = clock
        self._pause = pause
        self._progress = progress
        self._since_s: dict[tuple[UUID, str], float] = {}  # subject and first difference: when that was seen first
        self._wrong: list[Drift] = []
        self._to_come = 0

    async def run(self) -> SettledDrifts:
        """Return once nothing changes any more, or after a little more than WITHIN_S."""
        unlisted = self._report.outcomes[Finding.DRIFT] - len(self._report.drifts)
        unlisted_behind = self._report.behind - sum(drift.behind for drift in self._report.drifts)
        now_s = began_s = self._clock.monotonic_s()
        under_way = await self._under_way()
        left = self._not_explained(self._report.drifts, under_way, now_s)
        while left and now_s - began_s < WITHIN_S + (0 if all(drift.behind for drift in left) else _FIGURES_S):
            self._progress("waiting for events under way", int(now_s - began_s), int(WITHIN_S))
            await self._pause(_PAUSE_S)
            left = await self._look_again(left)
            now_s, under_way = self._clock.monotonic_s(), await self._under_way()
            left = self._not_explained(left, under_way, now_s)
        self._decide(left, now_s)
        if under_way.paused:  # these were not looked at again
            self._to_come += unlisted_behind
            unlisted -= unlisted_behind
        return SettledDrifts(self._wrong, unlisted, self._to_come)

    def _not_explained(self, drifts: Sequence[Drift], under_way: EventsUnderWay, now_s: float) -> list[Drift]:
        for drift in drifts:
            self._since_s.setdefault(_state(drift), now_s)
        left = [drift for drift in drifts if not under_way.explain(drift)]
        self._to_come += len(drifts) - len(left)
        return left

    async def _look_again(self, drifts: Sequence[Drift]) -> list[Drift]:
        """Those that still do not agree and may yet: one of figures that are the same twice is wrong."""
        before = {drift.subject_id: drift for drift in drifts}
        found = await self._again(list(before))
        self._report.outcomes[Finding.DRIFT] -= len(drifts)
        self._report.outcomes += found.outcomes
        left: list[Drift] = []
        for drift in found.drifts:
            stays = not drift.behind and drift == before[drift.subject_id]
            (self._wrong if stays else left).append(drift)
        return left

    def _decide(self, left: Sequence[Drift], now_s: float) -> None:
        """At the end: an event that was published just now may still come, whatever else is left is wrong."""
        for drift in left:
            if drift.behind and now_s - self._since_s[_state(drift)] < WITHIN_S:
                self._to_come += 1
            else:
                self._wrong.append(drift)


def _state(drift: Drift) -> tuple[UUID, str]:
    return drift.subject_id, drift.differences[0]
