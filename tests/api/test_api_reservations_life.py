"""The laws of a reservation's life and of free times: pure, on arbitrary sequences of what may happen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from api.reservations.life.rule import (
    LIVE,
    SETTLE,
    Arrived,
    Cancelled,
    ChargingBegan,
    Confirmed,
    Place,
    PlaceLost,
    Reservation,
    ReservationState,
    Terms,
    TimePassed,
    Trigger,
    due_at,
    in_the_way,
    transition,
)
from api.reservations.places.free_times import Interval, next_free, starts_between

T0 = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
TERMS = Terms(
    buffer=timedelta(minutes=5),
    late=timedelta(minutes=15),
    cancel_free=timedelta(minutes=30),
    move=timedelta(minutes=60),
    grace=timedelta(minutes=10),
)
HERE, THERE = Place(1, "ST-1", 1, None), Place(2, "ST-2", 1, None)
S = ReservationState
STEPS = {
    (S.HELD, S.CONFIRMED),
    (S.HELD, S.EXPIRED),
    (S.HELD, S.USED),
    (S.HELD, S.CANCELLED),
    (S.CONFIRMED, S.ACTIVE),
    (S.CONFIRMED, S.USED),
    (S.CONFIRMED, S.CANCELLED),
    (S.ACTIVE, S.USED),
    (S.ACTIVE, S.NO_SHOW),
    (S.ACTIVE, S.CANCELLED),
}
EVENTS = {
    S.CANCELLED: "reservation.cancelled.v1",
    S.EXPIRED: "reservation.expired.v1",
    S.NO_SHOW: "reservation.no_show.v1",
    S.USED: None,
}


def reservation(*, held: bool = False, starts_in_s: int = 7_200, duration_s: int = 3_600) -> Reservation:
    starts_at = T0 + timedelta(seconds=starts_in_s)
    return Reservation(
        id=UUID(int=1),
        driver_id="D1",
        place=HERE,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=duration_s),
        state=S.HELD if held else S.CONFIRMED,
        revision=1,
        created_at=T0,
        held_until=T0 + timedelta(minutes=5) if held else None,
    )


class Life(RuleBasedStateMachine):
    """Time passes, and things happen to a reservation, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.one = reservation()
        self.fees = 0
        self.ends = 0
        self.reset = True

    def happens(self, trigger: Trigger) -> None:
        before = self.one
        change = transition(before, trigger, TERMS)
        if change is None:
            return
        after = change.reservation
        assert before.state in LIVE, "what is over stays as it is"
        assert after.revision == before.revision + 1
        assert (after.starts_at, after.ends_at, after.driver_id) == (before.starts_at, before.ends_at, before.driver_id)
        if after.state is not before.state:
            assert (before.state, after.state) in STEPS
        expected = EVENTS.get(after.state, "reservation.created.v1")
        assert change.event_type == expected
        self.ends += not after.live
        if change.fee is not None:
            self.fees += 1
            assert not after.live
            assert after.starts_at == change.fee.starts_at <= change.fee.ends_at
            assert change.fee.expired == (after.state is not S.USED)
        self.one = after
        if not after.live:
            assert transition(after, trigger, TERMS) is None, "the same event, delivered again"

    @rule(seconds=st.integers(0, 4_000))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(held=st.booleans(), starts=st.integers(0, 9_000), length=st.integers(300, 9_000))
    def another(self, held: bool, starts: int, length: int) -> None:
        if not self.one.live or self.reset:
            ahead = int((self.now - T0).total_seconds())
            self.one = replace(
                reservation(held=held, starts_in_s=ahead + starts, duration_s=length), created_at=self.now
            )
            if held:
                self.one = replace(self.one, held_until=self.now + timedelta(minutes=5))
            self.fees = self.ends = 0
            self.reset = False

    @rule()
    def clock(self) -> None:
        """As the job does: until nothing is due."""
        for _ in range(4):
            due = due_at(self.one, TERMS, self.now)
            before = self.one
            self.happens(TimePassed(self.now))
            if self.one is before:
                assert due is None or due > self.now, "or the job would never end"
                break
            if self.one.state is S.NO_SHOW:
                late = min(before.starts_at + TERMS.late, before.ends_at)
                assert self.now >= max(late, before.request_until or late) + SETTLE
        else:
            raise AssertionError("time alone changes it four times")
        self.happens(TimePassed(self.now))
        assert self.one is before, "the same moment again"

    @rule()
    def confirmed(self) -> None:
        in_time = self.one.state is S.HELD and self.one.held_until is not None and self.one.held_until >= self.now
        before = self.one
        self.happens(Confirmed(self.now))
        assert self.one.state is S.CONFIRMED or not in_time
        assert self.one.revision == before.revision or in_time, "too late, or there was nothing to confirm"

    @rule(by_driver=st.booleans())
    def cancelled(self, by_driver: bool) -> None:
        before, fees = self.one, self.fees
        self.happens(Cancelled(self.now, by_driver=by_driver))
        if before.live:
            late = self.now > before.starts_at - TERMS.cancel_free and before.state is not S.HELD
            assert self.fees == fees + (late and by_driver)

    @rule()
    def charging_began(self) -> None:
        before = self.one
        self.happens(ChargingBegan(self.now, UUID(int=2)))
        if before.live:
            assert self.one.state is S.USED

    @rule(early=st.integers(0, 600))
    def arrived(self, early: int) -> None:
        before = self.one
        self.happens(Arrived(self.now - timedelta(seconds=early)))
        if before.live:
            assert self.one.state is S.USED

    @rule(moved=st.booleans())
    def place_lost(self, moved: bool) -> None:
        before = self.one
        self.happens(PlaceLost(self.now, "it is out of order", THERE if moved else None))
        if before.live:
            assert self.one.reason == "it is out of order"
            assert (self.one.place, self.one.state) == ((THERE, before.state) if moved else (before.place, S.CANCELLED))

    @rule(seconds=st.integers(0, 900))
    def start_requested(self, seconds: int) -> None:
        """As reservations.claim notes it."""
        until = self.now + timedelta(seconds=seconds)
        if self.one.live:
            self.one = replace(self.one, request_id=UUID(int=3), request_until=until)

    @invariant()
    def it_ends_once_and_costs_once(self) -> None:
        assert self.fees <= 1
        assert self.ends == (not self.one.live)


TestLife = Life.TestCase


@given(st.integers(-7_200, 9_000), st.integers(0, 7_200), st.integers(0, 600))
def test_who_came_when_the_driver_might_is_never_in_the_way_and_who_came_before_is(
    came_s: int, starts: int, later: int
) -> None:
    one = reservation(starts_in_s=starts)
    since, may_come = T0 + timedelta(seconds=came_s), one.starts_at - TERMS.buffer
    found = in_the_way(since, one, TERMS)
    assert found == (since < may_come and (since >= T0 or may_come > T0))
    assert not in_the_way(max(since, may_come), one, TERMS)
    assert found or not in_the_way(since + timedelta(seconds=later), one, TERMS) or since < T0, "later is no worse"


@given(st.booleans(), st.integers(0, 7_200), st.integers(300, 7_200), st.integers(0, 20_000))
def test_time_alone_ends_every_reservation_however_late_the_job_is(
    held: bool, starts: int, length: int, later: int
) -> None:
    one = reservation(held=held, starts_in_s=starts, duration_s=length)
    end = T0 + timedelta(seconds=max(later, starts + length + 3_600))
    for _ in range(3):
        change = transition(one, TimePassed(end), TERMS)
        one = one if change is None else change.reservation
    assert one.state is (S.EXPIRED if held else S.NO_SHOW)
    assert due_at(one, TERMS, end) is None


@given(st.integers(0, 7_200), st.integers(300, 7_200))
def test_a_no_show_is_charged_until_the_driver_was_late_and_not_until_it_was_noticed(starts: int, length: int) -> None:
    one = replace(reservation(starts_in_s=starts, duration_s=length), state=S.ACTIVE)
    noticed = one.ends_at + timedelta(days=1)
    change = transition(one, TimePassed(noticed), TERMS)
    assert change is not None
    assert change.fee is not None
    assert change.fee.ends_at == min(one.starts_at + TERMS.late, one.ends_at)


@given(st.integers(0, 600))
def test_what_is_held_is_confirmed_in_time_or_not_at_all(seconds: int) -> None:
    change = transition(reservation(held=True), Confirmed(T0 + timedelta(seconds=seconds)), TERMS)
    assert (change is not None) == (seconds <= 300)


@given(asked=st.integers(-3_600, 3_600), later=st.integers(0, 7_200))
def test_nobody_is_a_no_show_while_the_station_is_asked_to_start(asked: int, later: int) -> None:
    one = replace(reservation(), state=S.ACTIVE)
    until, at = one.starts_at + timedelta(seconds=asked), one.starts_at + timedelta(seconds=later)
    change = transition(replace(one, request_until=until), TimePassed(at), TERMS)
    assert (change is not None) == (at >= max(until, one.starts_at + TERMS.late) + SETTLE)


MINUTES = st.integers(-200, 600)


@st.composite
def intervals(draw: st.DrawFn) -> list[Interval]:
    found = []
    for start, length in draw(st.lists(st.tuples(MINUTES, st.integers(1, 200)), max_size=8)):
        begin = T0 + timedelta(minutes=start)
        found.append((begin, begin + timedelta(minutes=length)))
    return sorted(found)


@given(
    taken=intervals(),
    first=st.integers(0, 300),
    width=st.integers(0, 300),
    duration=st.integers(5, 120),
    buffer=st.integers(0, 20),
)
def test_free_times_are_all_times_at_which_a_reservation_would_overlap_nothing(
    taken: list[Interval], first: int, width: int, duration: int, buffer: int
) -> None:
    """Minute by minute, against the definition."""
    minute = timedelta(minutes=1)
    start = T0 + first * minute
    within = (start, start + width * minute)
    found = list(starts_between(taken, within, duration * minute, buffer * minute, T0))

    def fits(moment: datetime) -> bool:
        begin, end = max(T0, moment - buffer * minute), moment + (duration + buffer) * minute
        return not any(a < end and begin < b for a, b in taken)

    expected = {moment for number in range(width + 1) if fits(moment := start + number * minute)}
    given_ = {m for number in range(width + 1) if any(a <= (m := start + number * minute) <= b for a, b in found)}
    assert given_ == expected
    assert found == sorted(found)


@given(taken=intervals())
def test_of_several_places_the_soonest_are_named(taken: list[Interval]) -> None:
    within = (T0, T0 + timedelta(hours=12))
    length = timedelta(minutes=30)
    found = next_free({HERE: taken, THERE: []}, within, length, TERMS.buffer, T0, 3)
    assert (found[0].starts_at, len(found) <= 3) == (T0, True)
    assert [one.starts_at for one in found] == sorted(one.starts_at for one in found)
