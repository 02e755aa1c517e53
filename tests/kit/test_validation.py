"""Validation errors as sentences."""

import pytest

from kit.validation import explain_error, whole_token


@pytest.mark.parametrize(("given", "words"), [("", "is empty"), ("a\0b", "has a control character")])
def test_a_text_that_must_be_printable_says_why_it_is_not_taken(given: str, words: str) -> None:
    error = {"type": "string_pattern_mismatch", "input": given, "ctx": {"pattern": "^[a-z]+$"}, "msg": ""}
    assert explain_error(error, None).startswith(words)


@pytest.mark.parametrize("token", ["vso_…", "vso_a\nb", "Bearer vso_a", "vso_\x7f"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="copy it whole") as refused:
        whole_token(token)
    assert token not in str(refused.value)


@pytest.mark.parametrize("token", ["", "vsd_" + "a-_9" * 10, "eyJh.eyJz.c2ln"])
def test_other_tokens_are_as_they_were_given(token: str) -> None:
    assert whole_token(token) == token
