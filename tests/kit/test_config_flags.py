"""Laws of feature flags: stable, monotone, and decided in one order."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kit.config.flags import BUCKETS, DecidedBy, FlagRule, FlagSubject, FlagTargets, bucket_of
from kit.config.provider import context_of, subject_of

KEYS = st.text(min_size=1, max_size=40)
FLAGS = st.sampled_from(["pricing.demand", "a.b", "x.y_z"])
SHARES = st.decimals(0, 100, places=2)
NAMES = st.sampled_from(["A", "B", "C", "D"])
TARGETS = st.builds(
    FlagTargets,
    stations=st.frozensets(NAMES, max_size=2),
    organisations=st.frozensets(NAMES, max_size=2),
    roles=st.frozensets(NAMES, max_size=2),
)
SUBJECTS = st.builds(
    FlagSubject, station_id=NAMES | st.just(""), organisation=NAMES | st.just(""), role=NAMES | st.just("")
)
RULES = st.builds(FlagRule, enabled=st.booleans(), percentage=SHARES, targets=TARGETS, excepted=TARGETS)


def share(percentage: object, **more: Any) -> FlagRule:
    return FlagRule.model_validate({"enabled": True, "percentage": percentage, **more})


@given(FLAGS, KEYS, SHARES, SHARES)
def test_a_higher_percentage_only_adds_keys(flag: str, key: str, one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    subject = FlagSubject(station_id=key)
    assert share(low).decide(flag, subject)[0] <= share(high).decide(flag, subject)[0]


@pytest.mark.parametrize("group", ["stations", "organisations", "roles"])
@pytest.mark.parametrize("name", ["", " ", "a\0", "a\nb", "\x7f", "x" * 65])
def test_a_name_that_the_database_or_a_page_cannot_show_is_refused(group: str, name: str) -> None:
    with pytest.raises(ValidationError, match=group):
        FlagTargets.model_validate({group: [name]})


@given(RULES, SHARES, SUBJECTS)
def test_whatever_else_a_rule_says_a_higher_percentage_turns_it_off_for_nobody(
    rule: FlagRule, more: Decimal, subject: FlagSubject
) -> None:
    higher = rule.model_copy(update={"percentage": max(rule.percentage, more)})
    assert rule.decide("a.b", subject)[0] <= higher.decide("a.b", subject)[0]


def test_the_bucket_of_a_key_is_the_same_for_ever() -> None:
    """Written down: whoever changes the hash moves every roll-out that is under way."""
    assert [bucket_of("pricing.demand", key) for key in ("DE*VLT*E1", "DE-1", "ü", "")] == [6826, 6929, 9811, 3133]
    assert bucket_of("pricing.demand", "DE-1") != bucket_of("another.flag", "DE-1")


@pytest.mark.parametrize("percentage", [10, 20, "0.5", 50, "99.9"])
def test_a_percentage_is_that_share_of_keys(percentage: object) -> None:
    rule, keys = share(percentage), 20_000
    on = sum(rule.decide("a.b", FlagSubject(station_id=f"DE-{number}"))[0] for number in range(keys))
    expected = keys * float(rule.percentage) / 100
    assert abs(on - expected) < 5 * (expected * (1 - float(rule.percentage) / 100)) ** 0.5 + 1  # five deviations


@given(FLAGS, KEYS)
def test_every_key_is_in_a_bucket_and_the_ends_are_nobody_and_everybody(flag: str, key: str) -> None:
    assert 0 <= bucket_of(flag, key) < BUCKETS
    assert share(0).decide(flag, FlagSubject(key=key)) == (False, DecidedBy.SHARE)
    assert share(100).decide(flag, FlagSubject(key=key)) == (True, DecidedBy.EVERYONE)


def test_without_a_key_a_share_is_off() -> None:
    assert share("99.99").decide("a.b", FlagSubject(role="operator")) == (False, DecidedBy.SHARE)


@given(RULES, SUBJECTS)
def test_off_then_excepted_then_targeted_then_the_share(rule: FlagRule, subject: FlagSubject) -> None:
    decided, reason = rule.decide("a.b", subject)
    if not rule.enabled:
        assert (decided, reason) == (False, DecidedBy.DISABLED)
    elif rule.excepted.include(subject):
        assert (decided, reason) == (False, DecidedBy.EXCEPTED)
    elif rule.targets.include(subject):
        assert (decided, reason) == (True, DecidedBy.TARGETED)
    else:
        assert reason in (DecidedBy.EVERYONE, DecidedBy.SHARE)
    named = {subject.station_id, subject.organisation, subject.role}
    assert "" not in rule.targets.stations | rule.targets.organisations | rule.targets.roles
    assert reason is not DecidedBy.TARGETED or named - {""}


@given(RULES)
def test_a_rule_survives_its_json(rule: FlagRule) -> None:
    assert FlagRule.model_validate_json(rule.model_dump_json()) == rule


@given(SUBJECTS)
def test_a_subject_survives_the_context_of_openfeature(subject: FlagSubject) -> None:
    there = subject_of(context_of(subject))
    assert (there.station_id, there.organisation, there.role) == (
        subject.station_id,
        subject.organisation,
        subject.role,
    )
    assert there.targeting_key == subject.targeting_key


@given(RULES, RULES)
def test_whom_a_change_touches_are_those_for_whom_it_is_another(before: FlagRule, after: FlagRule) -> None:
    stations = [f"S{number}" for number in range(30)] + ["A", "B"]
    touched = after.changed_for("a.b", before, stations)
    for station in stations:
        subject = FlagSubject(station_id=station)
        assert (station in touched) == (before.decide("a.b", subject)[0] != after.decide("a.b", subject)[0])


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"enabled": True, "percentage": 100.001},
        {"enabled": True, "percentage": 101},
        {"enabled": True, "percentage": "NaN"},
        {"enabled": True, "percent": 10},
        {"enabled": True, "targets": {"stations": [""]}},
        {"enabled": True, "targets": {"stations": [f"S{number}" for number in range(1_001)]}},
    ],
)
def test_what_is_no_rule_is_refused(document: Any) -> None:
    with pytest.raises(ValidationError):
        FlagRule.model_validate(document)
