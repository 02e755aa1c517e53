"""Laws of looking again: a fault is found whatever happens beside it, and what is under way is none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Never
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.documents import SubjectKind
from billing.reconcile import DRIFTS_MAX, Drift, Finding, Report
from kit.clock import ManualClock
from voltstream.backups.charges_under_way import WITHIN_S, DriftFollower, EventsUnderWay, SettledDrifts
from voltstream.cli.commands.backup import _billing_paused
from voltstream.settings import load_settings

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


def drift(number: int, difference: str, *, behind: bool = False) -> Drift:
    return Drift(SubjectKind.SESSION, UUID(int=number), None, "CP1", MOMENT, [difference], behind)


@dataclass(frozen=True)
class ScriptedCharge:
    """What a look at it finds. `kind` fault: figures that stay wrong; lost: an event that never comes; late: one that
    leaves the outbox `published_s` after the first look, and is handled `handled_s` later; revised: billing has each
    revision as the next one is there; racing: figures of two moments, other ones at each look."""

    kind: str
    published_s: float
    handled_s: float

    def seen(self, number: int, at_s: float, look: int) -> Drift | None:
        match self.kind:
            case "fault":
                return drift(number, "energy_uj: stored 1, telemetry has 2")
            case "lost":
                return drift(number, "completed, and there is no CDR of it (yet)", behind=True)
            case "late" if at_s < self.published_s + self.handled_s:
                return drift(number, "revision: stored 1, telemetry has 2", behind=True)
            case "revised":
                revision = int(at_s // (1 + self.handled_s))
                return drift(number, f"revision: stored {revision}, telemetry has {revision + 1}", behind=True)
            case "racing" if look < 3:
                return drift(number, f"energy_uj: stored {look}, telemetry has {look + 1}")
        return None

    def waits(self, at_s: float) -> bool:
        return self.kind == "late" and at_s < self.published_s


CHARGES = st.builds(
    ScriptedCharge,
    st.sampled_from(["fault", "lost", "late", "revised", "racing"]),
    st.floats(0, 200),
    st.floats(0, WITHIN_S - 5),
)


async def followed(charges: Sequence[ScriptedCharge], *, paused: bool = False) -> tuple[Report, SettledDrifts, float]:
    """The report as it is corrected, the result, and how long it took."""
    clock, looks = ManualClock(), Counter[UUID]()

    def look(subject_ids: Sequence[UUID]) -> Report:
        report = Report()
        for id_ in subject_ids:
            found = charges[id_.int].seen(id_.int, clock.monotonic_s(), looks[id_])
            looks[id_] += 1
            report.add(Finding.AGREES if found is None else Finding.DRIFT, found)
        return report

    async def again(subject_ids: Sequence[UUID]) -> Report:
        return look(subject_ids)

    async def under_way() -> EventsUnderWay:
        now_s = clock.monotonic_s()
        return EventsUnderWay({str(UUID(int=at)) for at, one in enumerate(charges) if one.waits(now_s)}, paused)

    async def pause(seconds: float) -> None:
        clock.advance(seconds)

    report = look([UUID(int=number) for number in range(len(charges))])
    settled = await DriftFollower(report, under_way, again, clock, pause, lambda *_: None).run()
    return report, settled, clock.monotonic_s()


@given(st.lists(CHARGES, max_size=12), st.booleans())
async def test_faults_are_found_and_what_is_under_way_is_none(charges: list[ScriptedCharge], paused: bool) -> None:
    report, settled, took_s = await followed(charges, paused=paused)
    wanted = {at for at, one in enumerate(charges) if one.kind == "fault" or (one.kind == "lost" and not paused)}
    assert sorted(one.subject_id.int for one in settled.wrong) == sorted(wanted)
    assert report.outcomes[Finding.DRIFT] == len(settled.wrong) + settled.to_come
    assert report.charges == len(charges)
    assert settled.wrong_unlisted == 0
    assert took_s < WITHIN_S + 10


async def test_nothing_is_waited_for_where_all_agrees_or_only_events_are_to_come() -> None:
    assert (await followed([]))[2] == 0
    _, settled, took_s = await followed([ScriptedCharge("late", 100, 1)])
    assert (settled, took_s) == (SettledDrifts([], 0, 1), 0)


async def test_a_fault_of_figures_is_told_after_a_second_look_and_not_after_a_minute() -> None:
    assert (await followed([ScriptedCharge("fault", 0, 0)]))[2] < 5


@pytest.mark.parametrize(("paused", "unlisted"), [(False, 7), (True, 2)])
async def test_drifts_beyond_those_listed_are_counted(paused: bool, unlisted: int) -> None:
    report = Report()
    for number in range(DRIFTS_MAX):
        report.add(Finding.DRIFT, drift(number, "revision", behind=True))
    for number in range(7):
        report.add(Finding.DRIFT, drift(DRIFTS_MAX + number, "revision", behind=number >= 2))
    all_of_them = {str(one.subject_id) for one in report.drifts}

    async def under_way() -> EventsUnderWay:
        return EventsUnderWay(all_of_them, paused)

    async def never(*_: object) -> Never:
        raise AssertionError("nothing is looked at again")

    settled = await DriftFollower(report, under_way, never, ManualClock(), never, lambda *_: None).run()
    assert (settled.wrong, settled.wrong_unlisted, settled.to_come) == ([], unlisted, DRIFTS_MAX + 7 - unlisted)


def test_billing_is_paused_by_a_file_too(tmp_path: Path) -> None:
    assert not _billing_paused(load_settings())
    assert _billing_paused(load_settings(billing_paused=True))
    (tmp_path / "billing.paused").write_text("true")
    assert _billing_paused(load_settings(config_dir=str(tmp_path)))
