"""Validation errors as sentences."""

from typing import Any
from uuid import UUID

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from billing.credits.models import RefundRequest
from ingest.admission.wire import text_fault
from kit.validation import explain_error, whole_token
from schemas.identifiers import NewStationId, StationId


@pytest.mark.parametrize(("given", "words"), [("", "is empty"), ("a\0b", "has a control character")])
def test_a_text_that_must_be_printable_says_why_it_is_not_taken(given: str, words: str) -> None:
    error = {"type": "string_pattern_mismatch", "input": given, "ctx": {"pattern": "^[a-z]+$"}, "msg": ""}
    assert explain_error(error, None).startswith(words)


@pytest.mark.parametrize("given", ["2026-0000017", "", 5])
def test_what_is_no_uuid_says_where_there_is_one(given: object) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(UUID).validate_python(given)
    (error,) = refused.value.errors()
    assert explain_error(dict(error), None).startswith("is no id: write the UUID")


@pytest.mark.parametrize("given", ["1,00", "-1.00", "1.00 EUR", "1e3", "", ".5", "1."])
def test_an_amount_is_refused_with_the_way_to_write_it(given: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RefundRequest(amount=given, reason="x")
    (error,) = refused.value.errors()
    assert explain_error(dict(error), RefundRequest) == (
        "write an amount in digits with a point and without sign or currency, like 2.50"
    )


@pytest.mark.parametrize(("given", "taken"), [("de*vlt*e1", "DE*VLT*E1"), ("a b", "A B"), ("A" * 36, "A" * 36)])
def test_a_station_is_named_as_readings_may_name_it(given: str, taken: str) -> None:
    assert TypeAdapter(StationId).validate_python(given) == taken
    assert text_fault("station_id", given) is None


@hypothesis.given(st.text(max_size=40) | st.text(st.characters(max_codepoint=130), max_size=40))
def test_an_id_is_one_if_and_only_if_readings_may_have_it_without_spaces_at_its_ends(text: str) -> None:
    taken = _taken(StationId, text)
    assert taken == (text_fault("station_id", text) is None and text == text.strip())
    assert _taken(NewStationId, text) == (taken and "/" not in text)


def _taken(kind: Any, text: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("token", ["vso_…", "vso_a\nb", "Bearer vso_a", "vso_\x7f"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="copy it whole") as refused:
        whole_token(token)
    assert token not in str(refused.value)


@pytest.mark.parametrize("token", ["", "vsd_" + "a-_9" * 10, "eyJh.eyJz.c2ln"])
def test_other_tokens_are_as_they_were_given(token: str) -> None:
    assert whole_token(token) == token
