"""Laws of splitting: sound bodies are split as JSON has it, damage costs the items it is in, and time is linear."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingest.admission.splitting import damaged_member, split
from ingest.errors import MalformedBody, TooLarge
from tests.ingest.wire_strategies import anything, as_json, good_items

ITEMS_MAX = 1_000
_blanks = st.text(" \t\r\n", max_size=3).map(str.encode)


def split_or_none(body: bytes, items_max: int = ITEMS_MAX) -> list[bytes] | None:
    """None if the body is refused."""
    try:
        return split(body, items_max)
    except MalformedBody:
        return None


@given(items=st.lists(anything, max_size=20), blank=_blanks, ascii_only=st.booleans(), indent=st.none() | st.just(1))
def test_a_sound_array_is_split_as_json_reads_it(
    items: list[Any], blank: bytes, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(items, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    assert [json.loads(item) for item in split(blank + body + blank, ITEMS_MAX)] == json.loads(body)


@given(members=st.dictionaries(st.text(max_size=8), anything, max_size=8), indent=st.none() | st.just(1))
def test_a_sound_object_is_split_into_its_members(members: dict[str, Any], indent: int | None) -> None:
    found = split(json.dumps(members, indent=indent).encode(), ITEMS_MAX)
    assert json.loads(b"{" + b",".join(found) + b"}") == members


_neighbours = st.lists(good_items.map(as_json), max_size=4)
_BYTES = b"[]{},:0x \xff\x00"


@given(before=_neighbours, item=good_items.map(as_json), after=_neighbours, data=st.data())
def test_a_byte_too_many_within_an_item_loses_no_other(
    before: list[bytes], item: bytes, after: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(1, len(item) - 1))
    # Without quotes and backslashes: a string without its end swallows what follows, and the body is refused.
    damaged = item[:at] + bytes([data.draw(st.sampled_from(_BYTES))]) + item[at:]
    assert_neighbours_are_found(before, damaged, after, split_or_none(array_of(*before, damaged, *after)))


@given(before=_neighbours, item=good_items.map(as_json), after=_neighbours, data=st.data())
def test_a_byte_too_few_within_an_item_loses_no_other(
    before: list[bytes], item: bytes, after: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(item) - 1))
    assume(item[at] not in b'"\\')
    damaged = item[:at] + item[at + 1 :]
    assert_neighbours_are_found(before, damaged, after, split_or_none(array_of(*before, damaged, *after)))


@given(before=_neighbours, item=good_items.map(as_json), after=_neighbours, data=st.data())
def test_greater_damage_loses_no_other_item_unless_the_body_is_refused(
    before: list[bytes], item: bytes, after: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(1, len(item) - 2))
    cut = data.draw(st.integers(0, 2))
    assume(not set(b'"\\') & set(item[at : at + cut]))
    damaged = item[:at] + data.draw(st.lists(st.sampled_from(_BYTES), max_size=3).map(bytes)) + item[at + cut :]
    found = split_or_none(array_of(*before, damaged, *after))
    if found is not None:
        assert_neighbours_are_found(before, damaged, after, found)


def array_of(*items: bytes) -> bytes:
    return b"[" + b",".join(items) + b"]"


def assert_neighbours_are_found(
    before: list[bytes], damaged: bytes, after: list[bytes], found: list[bytes] | None
) -> None:
    assert found is not None
    assert found[: len(before)] == before
    assert found[len(found) - len(after) :] == after
    assert b",".join(found[len(before) : len(found) - len(after)]).replace(b" ", b"") == damaged.replace(b" ", b"")


@given(body=st.lists(st.sampled_from(b'[]{},:"\\ a1'), max_size=60).map(bytes))
def test_any_bytes_are_split_or_refused_and_what_is_split_is_in_the_body(body: bytes) -> None:
    items = split_or_none(b"[" + body)
    at = 0
    for item in items or ():
        at = body.index(item, at) + len(item)


@pytest.mark.parametrize("text", [b"},{", b'\\"},{', b"]", b"[[[", b"\\\\"])
def test_brackets_within_strings_are_text(text: bytes) -> None:
    items = [b'{"a":"%b"}' % text, b'{"b":NaN}']
    assert split(b"[" + b",".join(items) + b"]", ITEMS_MAX) == items


@pytest.mark.parametrize(
    ("body", "position"),
    [(b"", 0), (b"x", 0), (b"[", 1), (b'["a]', 4), (b"[1", 2), (b"[1] [2]", 4), (b'[{"a":1}, {"b"', 14)],
)
def test_a_body_without_its_end_or_with_more_behind_it_is_refused(body: bytes, position: int) -> None:
    with pytest.raises(MalformedBody) as caught:
        split(body, ITEMS_MAX)
    assert caught.value.position == position


@pytest.mark.parametrize("body", [b"[" + b"1," * ITEMS_MAX + b"1]", b"[" + b"[]" * 800_000 + b"]"])
def test_more_items_or_brackets_than_readings_have_are_too_large(body: bytes) -> None:
    with pytest.raises(TooLarge):
        split(body, ITEMS_MAX)


@pytest.mark.parametrize("unit", [b"{]", b"[{", b"{[", b",{", b'""', b"\\\\", b"}", b"]", b" ", b"{,", b'"\\""'])
def test_every_byte_is_looked_at_a_bounded_number_of_times(unit: bytes) -> None:
    # A scan that looked back or ahead for each bracket would take minutes for these.
    split_or_none(b"[{" + unit * (1_400_000 // len(unit)) + b"}]", 2_000_000)


def test_a_member_is_found_in_a_damaged_object() -> None:
    body = b'{"metadata": {"a": [1, 2]}, "payload": {"readings": [{"x": NaN}, {"y": 1}]} }'
    assert damaged_member(body, "metadata") == b'{"a": [1, 2]}'
    assert damaged_member(damaged_member(body, "payload"), "readings") == b'[{"x": NaN}, {"y": 1}]'
    for name in ("a", "meta", "x"):
        with pytest.raises(MalformedBody, match=f"no member {name}"):
            damaged_member(body, name)
