"""Laws of spelling suggestions."""

from hypothesis import given
from hypothesis import strategies as st

from kit.spelling import did_you_mean, nearest_name

KNOWN = {"station_id", "connector_id", "energy_wh"}


def test_a_misspelt_name_gets_the_nearest_known_one() -> None:
    assert nearest_name("statoin_id", KNOWN) == "station_id"
    assert nearest_name("temperature", KNOWN) is None
    assert nearest_name("energy", KNOWN, 0.9) is None
    assert did_you_mean("energy_w", KNOWN) == "; did you mean energy_wh?"


def test_without_a_similar_name_all_are_listed() -> None:
    assert did_you_mean("zzz", KNOWN) == "; there are: connector_id, energy_wh, station_id"
    assert did_you_mean("zzz", set()) == "; leave it out"


@given(st.sampled_from(sorted(KNOWN)))
def test_a_known_name_is_nearest_to_itself(name: str) -> None:
    assert nearest_name(name, KNOWN) == name


@given(st.text(), st.sets(st.text(max_size=20), max_size=20))
def test_a_suggestion_is_a_known_name(name: str, known: set[str]) -> None:
    assert nearest_name(name, known) in {None, *known}
