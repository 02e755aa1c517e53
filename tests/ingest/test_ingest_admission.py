"""Laws of admission: every item is accounted for, a bad one affects no other, and both paths agree."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.admission import AdmissionRules, Admitted, Remarks, admit_arrow, admit_json, admit_ndjson
from ingest.admission.detailed import decode_detailed
from ingest.admission.event_time import MANY, UNREADABLE, epoch_ms, epoch_ms_all
from ingest.admission.fixed_point import thousandths, thousandths_all
from ingest.admission.wire import DETAILS, FIELDS, SessionEventName, StatusName
from ingest.errors import MalformedBody, TooLarge
from schemas.reading import (
    EXTRA_BYTES_MAX,
    EXTRA_UNKNOWN_MAX,
    PLAIN_READING_SCHEMA,
    QUANTITIES,
    RAW_ITEM_BYTES_MAX,
    READING_SCHEMA,
    SESSION_EVENT_NAMES,
    STATUS_NAMES,
)
from tests.ingest.wire_strategies import (
    BOUND,
    NOW_MS,
    RULES,
    STRICT,
    STRICT_BOUND,
    anything,
    as_json,
    batches,
    expected,
    expected_strict,
    extra_of,
    good_items,
    items,
    plain_items,
    request_error,
    rows_of,
)

GOOD: dict[str, Any] = {"station_id": "CP1", "connector_id": 1, "ts": "2026-11-22T13:17:47Z"}
ADMISSIONS = [admit_json, admit_ndjson, admit_arrow]


def refusal(item: object, rules: AdmissionRules = STRICT) -> tuple[str, str]:
    admitted = admit_json(as_json([item]), rules)
    (refused,) = admitted.refused
    return refused.reason, refused.detail


@pytest.mark.parametrize("admit", ADMISSIONS)
@given(body=st.binary(max_size=400))
def test_any_bytes_are_admitted_or_refused_and_never_crash(
    admit: Callable[[bytes, AdmissionRules], Admitted], body: bytes
) -> None:
    assert request_error(admit, body, RULES).isprintable()


@pytest.mark.parametrize("admit", [admit_json, admit_ndjson])
@given(batch=batches, data=st.data())
def test_a_damaged_body_never_crashes(
    admit: Callable[[bytes, AdmissionRules], Admitted], batch: list[Any], data: st.DataObject
) -> None:
    body = bytearray(as_json(batch))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        body = body or bytearray(b"[")
    assert request_error(admit, bytes(body), BOUND).isprintable()


_EMPTY = dict.fromkeys(READING_SCHEMA.names) | {"status": 0, "session_event": 0}


@given(batch=batches, rules=st.sampled_from([RULES, BOUND]))
def test_admission_agrees_with_the_reference(batch: list[Any], rules: AdmissionRules) -> None:
    admitted = admit_json(as_json(batch), rules)
    found = [expected(item, rules) for item in json.loads(as_json(batch))]
    accepted = [one for one in found if one is not None]
    assert [row | {"extra": None} for row in rows_of(admitted)] == [_EMPTY | one.row for one in accepted]
    assert [extra_of(row) for row in rows_of(admitted)] == [one.extra for one in accepted]
    assert [item.position for item in admitted.refused] == [at for at, one in enumerate(found) if one is None]
    told = admitted.remarks or Remarks()
    assert {entry[:2] for entry in told.dropped} == {
        (at, name if name.isprintable() else ascii(name)[1:-1])
        for at, one in enumerate(found)
        for name in (one.dropped if one is not None else ())
    }
    assert set(told.unknown_fields) == set().union(*(one.unknown for one in accepted))


@given(batch=st.lists(good_items, max_size=20), rules=st.sampled_from([RULES, STRICT, BOUND]))
def test_readings_with_details_are_decoded_at_once_as_field_by_field(
    batch: list[dict[str, Any]], rules: AdmissionRules
) -> None:
    batch = [item | {"frequency_hz": 50} for item in batch]
    at_once, one_by_one = admit_json(as_json(batch), rules), admit_json(as_json([*batch, 0]), rules)
    assert decode_detailed(as_json([*batch, 0])) is None
    assert rows_of(at_once) == rows_of(one_by_one)
    assert at_once.refused == one_by_one.refused[:-1]


@given(item=good_items)
def test_plain_details_need_no_second_look(item: dict[str, Any]) -> None:
    usual = {name: value for name, value in item.items() if not isinstance(value, str) or value.isalnum()}
    plain = {name: round(value, 4) if isinstance(value, float) else value for name, value in usual.items()}
    assert decode_detailed(as_json([plain | GOOD])) is not None


@pytest.mark.parametrize(
    "field",
    [
        *('"id_tag":"\\u0041"', '"id_tag":"\u00e9"', '"id_tag":"\x7f"', '"id_tag":7', f'"id_tag":"{"x" * 65}"'),
        *('"power_factor":"0.5"', '"power_factor":2', '"power_factor":1e-200', '"power_factor":true'),
        *('"frequency_hz":[50]', '"fan_rpm":9', '"energy_export_wh":"5"', '"energy_export_wh":-1'),
    ],
)
def test_other_details_are_looked_at_alone(field: str) -> None:
    body = b"[%b,%b]" % (as_json(GOOD)[:-1], field.encode() + b"}")
    assert decode_detailed(body) is None
    assert admit_json(body, RULES).accepted == 1


@given(batch=batches, rules=st.sampled_from([STRICT, STRICT_BOUND]))
def test_strict_refuses_all_that_is_not_by_the_letter(batch: list[Any], rules: AdmissionRules) -> None:
    admitted = admit_json(as_json(batch), rules)
    found = [expected_strict(item, rules) for item in json.loads(as_json(batch))]
    assert [row | {"extra": None} for row in rows_of(admitted)] == [_EMPTY | row for row in found if row is not None]
    assert [item.position for item in admitted.refused] == [at for at, row in enumerate(found) if row is None]
    assert admitted.remarks is None or (admitted.remarks.dropped, admitted.remarks.unknown_fields) == ([], {})


@given(batch=st.lists(plain_items, max_size=20), data=st.data())
def test_numbers_as_strings_are_those_numbers(batch: list[Any], data: st.DataObject) -> None:
    texts = []
    for item in batch:
        numeric = [name for name, value in item.items() if type(value) in (int, float) and name != "ts"]
        chosen = data.draw(st.sets(st.sampled_from(numeric)))
        texts.append(item | {name: json.dumps(item[name]) for name in chosen})
    assert rows_of(admit_json(as_json(texts), RULES)) == rows_of(admit_json(as_json(batch), RULES))


@given(batch=batches, rules=st.sampled_from([RULES, BOUND, STRICT]))
def test_a_batch_is_admitted_as_each_of_its_items_alone(batch: list[Any], rules: AdmissionRules) -> None:
    together = admit_json(as_json(batch), rules)
    alone = [admit_json(as_json([item]), rules) for item in batch]
    assert rows_of(together) == [row for one in alone for row in rows_of(one)]
    assert [item._replace(position=0) for item in together.refused] == [item for one in alone for item in one.refused]


@given(batch=batches)
def test_every_item_is_accepted_or_refused_exactly_once(batch: list[Any]) -> None:
    admitted = admit_json(as_json(batch), BOUND)
    assert admitted.accepted + len(admitted.refused) == len(batch)
    places = [item.position for item in admitted.refused]
    assert places == sorted(set(places))
    assert all(item.raw == as_json(batch[item.position])[:RAW_ITEM_BYTES_MAX] for item in admitted.refused)
    assert all(item.reason and item.detail.isprintable() for item in admitted.refused)


@given(before=st.lists(good_items, max_size=15), bad=items, after=st.lists(good_items, max_size=15))
def test_an_item_does_not_affect_its_neighbours(before: list[Any], bad: object, after: list[Any]) -> None:
    with_it = admit_json(as_json([*before, bad, *after]), RULES)
    own = admit_json(as_json([bad]), RULES)
    first, last = (rows_of(admit_json(as_json(part), RULES)) for part in (before, after))
    assert rows_of(with_it) == [*first, *rows_of(own), *last]


@given(batch=batches)
def test_ndjson_is_admitted_as_json(batch: list[Any]) -> None:
    lines = b"\n \r\n".join(map(as_json, batch)) + b"\r\n"
    left, right = admit_json(as_json(batch), BOUND), admit_ndjson(lines, BOUND)
    assert rows_of(left) == rows_of(right)
    assert [item[:3] for item in left.refused] == [item[:3] for item in right.refused]


def test_a_broken_line_of_ndjson_is_refused_alone() -> None:
    good = as_json(GOOD)
    admitted = admit_ndjson(b"\n".join([good, b'{"station_id":', b"\xff\xfe", b"[" * 100_000, good]), RULES)
    assert admitted.accepted == 2
    assert [(item.position, item.reason) for item in admitted.refused] == [(at, "malformed") for at in (1, 2, 3)]


@pytest.mark.parametrize(
    "damaged",
    [
        *(
            b'{"power_w":%b}' % value
            for value in (b"NaN", b"-Infinity", b"", b"01", b"1,", b"'1'", b"[1", b"{1", b"1]", b"1}")
        ),
        *(b'{"station_id":"%b"}' % text for text in (b"\\ud800", b"\xff\xfe", b"\\x", b"a\tb", b"},{", b'\\"},{')),
        b"[" * 20_000 + b"]" * 20_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b'{"ts":1',
        b'"ts":1}',
        b'{"a":{"b":1,"c":2}',
        b'{"a":[{"b":1,{"c":1}]}',
        b"",
        b"}",
        b"nul",
        b"{]",
    ],
)
def test_damage_of_an_item_of_an_array_costs_that_item_alone(damaged: bytes) -> None:
    first, second = (as_json(GOOD | {"seq": seq}) for seq in (1, 2))
    admitted = admit_json(b" [%b , %b,\n%b, %b] " % (first, damaged, second, damaged), RULES)
    assert [row["seq"] for row in rows_of(admitted)] == [1, 2]
    assert {item.reason for item in admitted.refused} <= {"malformed", "missing_field"}
    assert {0, 2}.isdisjoint(item.position for item in admitted.refused)
    assert len(admitted.refused) == 2


@pytest.mark.parametrize("admit", [admit_json, admit_ndjson])
def test_a_byte_order_mark_is_nothing(admit: Callable[[bytes, AdmissionRules], Admitted]) -> None:
    for body in (as_json(GOOD), as_json(GOOD | {"mode": 1})):
        with_it, without = admit(b"\xef\xbb\xbf" + body, RULES), admit(body, RULES)
        assert (with_it.accepted, rows_of(with_it)) == (1, rows_of(without))


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"energy_kwh": 3}, "unknown_field", "unknown field energy_kwh; send energy_wh in watt-hours"),
        ({"power_kw": 3}, "unknown_field", "send power_w in watts"),
        ({"timestamp": 3}, "unknown_field", "send ts"),
        ({"connectorId": 3}, "unknown_field", "did you mean connector_id?"),
        ({"station_id": None}, "missing_field", "station_id is missing"),
        ({"ts": None}, "missing_field", "ts is missing"),
        ({"connector_id": "1"}, "wrong_type", "connector_id must be an integer, this is a string"),
        ({"connector_id": True}, "wrong_type", "boolean"),
        ({"connector_id": 1.0}, "wrong_type", "integer"),
        ({"connector_id": 32_768}, "out_of_range", "0 to 32767"),
        ({"seq": -1}, "out_of_range", "seq must be 0"),
        ({"boot": 2**53}, "out_of_range", "boot must be 0"),
        ({"energy_wh": "12"}, "wrong_type", "a number"),
        ({"power_w": 2e7}, "absurd", "-10000000 to 10000000"),
        ({"soc_pct": 100.001}, "absurd", "0 to 100"),
        ({"station_id": ""}, "station_id_invalid", "1 to 36"),
        ({"station_id": "CP\u00e9"}, "station_id_invalid", "printable ASCII"),
        ({"station_id": "CP\n"}, "station_id_invalid", "printable ASCII"),
        ({"session_id": "a\0b"}, "session_id_invalid", "printable ASCII"),
        ({"session_id": "x" * 65}, "session_id_invalid", "1 to 64"),
        ({"status": "charging"}, "status_unknown", "SuspendedEVSE"),
        ({"session_event": "Stopped"}, "session_event_unknown", "Started, Updated, Ended"),
        ({"ts": "2026-11-22T13:17:47"}, "ts_naive", "+02:00"),
        ({"ts": "22.11.2026"}, "ts_invalid", "RFC 3339"),
        ({"ts": "2026-02-30T00:00:00Z"}, "ts_invalid", "RFC 3339"),
        ({"ts": 1_795_353_467.5}, "ts_invalid", "without a point"),
        ({"ts": NOW_MS // 1_000}, "ts_ancient", "epoch milliseconds"),
        ({"ts": "2001-01-01T00:00:00Z"}, "ts_ancient", "clock"),
        ({"ts": "2026-11-24T13:17:48Z"}, "ts_future", "clock"),
        ({"ts": NOW_MS * 1_000}, "ts_future", "epoch milliseconds"),
        ({"voltage_v": [1]}, "wrong_type", "array"),
        ({"voltage_l1_v": 2_001}, "absurd", "0 to 2000"),
        ({"energy_export_wh": -1}, "absurd", "0 to 1000000000000"),
        ({"id_tag": "x" * 65}, "text_invalid", "64"),
        ({"ts": str(NOW_MS)}, "ts_invalid", "RFC 3339"),
    ],
)
def test_a_refused_item_has_its_reason_and_the_remedy(change: dict[str, Any], reason: str, words: str) -> None:
    found, detail = refusal(GOOD | change)
    assert found == reason
    assert words in detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"connector_id": "one"}, "wrong_type"),
        ({"connector_id": True}, "wrong_type"),
        ({"connector_id": "-1"}, "out_of_range"),
        ({"seq": "1.0"}, "wrong_type"),
        ({"boot": str(2**53)}, "out_of_range"),
        ({"ts": "20261122131747"}, "ts_invalid"),
        ({"ts": "1795353467"}, "ts_invalid"),
        ({"station_id": 7}, "wrong_type"),
    ],
)
def test_an_identity_that_cannot_be_refuses_the_item(change: dict[str, Any], reason: str) -> None:
    assert refusal(GOOD | change, RULES)[0] == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"soc_pct": 65_535}, "absurd"),
        ({"energy_wh": -1}, "absurd"),
        ({"energy_wh": "1,5"}, "wrong_type"),
        ({"power_w": "NaN"}, "not_finite"),
        ({"power_w": "1e999"}, "not_finite"),
        ({"current_a": [16]}, "wrong_type"),
        ({"status": "charging"}, "status_unknown"),
        ({"session_event": "Stopped"}, "session_event_unknown"),
        ({"session_id": "x" * 65}, "session_id_invalid"),
        ({"session_id": "a\0b"}, "session_id_invalid"),
        ({"power_factor": 1.5}, "absurd"),
        ({"id_tag": "x" * 65}, "text_invalid"),
        ({"x" * 65: 1}, "name_invalid"),
        ({"a\nb": 1}, "name_invalid"),
        ({"dropped": 1}, "name_reserved"),
        ({"firmware": "x" * EXTRA_BYTES_MAX}, "too_large"),
        ({"firmware": json.loads("[" * 50 + "]" * 50)}, "too_deep"),
    ],
)
def test_a_field_that_cannot_be_costs_that_field(change: dict[str, Any], reason: str) -> None:
    admitted = admit_json(as_json([GOOD, GOOD | {"power_factor": 0.98, "voltage_v": 230} | change]), RULES)
    assert (admitted.accepted, admitted.refused) == (2, [])
    assert admitted.remarks is not None
    (entry,) = admitted.remarks.dropped
    assert (entry.position, entry.reason) == (1, reason)
    assert admitted.remarks.reasons == {reason: 1}
    assert rows_of(admitted)[1]["voltage_mv"] == 230_000


def test_a_dropped_value_is_kept_in_its_raw_form_beside_what_holds() -> None:
    body = (
        b'[%b,"soc_pct":65535.00,"power_factor":0.980,"mode":{"b":[1.50,"\\u0000"],"a":1e-200}}]' % as_json(GOOD)[:-1]
    )
    (row,) = rows_of(admit_json(body, RULES))
    assert row["extra"] == (
        '{"dropped":{"soc_pct":65535.00},"mode":{"a":"1e-200","b":[1.50,"\ufffd"]},"power_factor":0.980}'
    )
    assert row["soc_mpct"] is None


@given(item=good_items, unknown=st.dictionaries(st.text(max_size=70), anything, max_size=40), data=st.data())
def test_extra_is_the_same_whatever_the_order_of_fields_and_never_beyond_its_bound(
    item: dict[str, Any], unknown: dict[str, Any], data: st.DataObject
) -> None:
    item["ts"] = NOW_MS
    (row,) = rows_of(admit_json(as_json([unknown | item]), RULES))
    text = row["extra"] or "{}"
    assert len(text.encode()) <= EXTRA_BYTES_MAX
    members = json.loads(text)
    assert list(members) == sorted(members)
    assert len(members) <= EXTRA_UNKNOWN_MAX + len(DETAILS) + 1
    if len(members.keys() - set(DETAILS)) < EXTRA_UNKNOWN_MAX and len(text) < EXTRA_BYTES_MAX // 2:
        shuffled = dict(data.draw(st.permutations(list((unknown | item).items()))))
        assert rows_of(admit_json(as_json([shuffled]), RULES)) == [row]


def test_what_is_told_is_bounded() -> None:
    many = [GOOD | {"soc_pct": -1, f"v{at}": at} for at in range(500)]
    told = admit_json(as_json(many), RULES).remarks
    assert told is not None
    assert (len(told.dropped), told.dropped_omitted, told.reasons) == (100, 400, {"absurd": 500})
    assert list(told.unknown_fields) == [f"v{at}" for at in range(100)]


def test_at_most_32_unknown_fields_are_kept() -> None:
    admitted = admit_json(as_json([GOOD | {f"v{at}": at for at in range(40)}]), RULES)
    assert admitted.remarks is not None
    assert len(admitted.remarks.unknown_fields) == EXTRA_UNKNOWN_MAX
    assert [entry.reason for entry in admitted.remarks.dropped] == ["too_large"] * 8


@pytest.mark.parametrize(
    ("fields", "power_mw"),
    [
        ({"power_export_w": 5_000.25}, -5_000_250),
        ({"power_w": 7_000.1, "power_export_w": 0.3}, 6_999_800),
        ({"power_w": 7_000, "power_export_w": 0}, 7_000_000),
        ({"power_export_w": 0}, None),
        ({"power_w": -5_000, "power_export_w": 5_000}, -5_000_000),
        ({"power_w": 7_000, "power_export_w": -1}, 7_000_000),
        ({"power_export_w": "5000"}, -5_000_000),
    ],
)
def test_exported_power_is_subtracted_unless_power_says_it_already(
    fields: dict[str, Any], power_mw: int | None
) -> None:
    (row,) = rows_of(admit_json(as_json([GOOD | fields]), RULES))
    assert row["power_mw"] == power_mw


def test_exported_energy_has_a_column() -> None:
    (row,) = rows_of(admit_json(as_json([GOOD | {"energy_export_wh": "500.0005"}]), RULES))
    assert (row["energy_export_mwh"], row["extra"]) == (500_000, None)


def test_a_reading_of_which_only_its_identity_is_left_is_accepted() -> None:
    admitted = admit_json(as_json([GOOD | {"soc_pct": 65_535}]), RULES)
    assert (admitted.accepted, admitted.refused) == (1, [])


@pytest.mark.parametrize("digits", ["1e400", "-1e999", "1" + "0" * 400])
def test_a_number_beyond_every_float_costs_its_field(digits: str) -> None:
    good = as_json(GOOD)
    bad = good[:-1] + f',"power_w":{digits},"soc_pct":50,"mode":{{"a":[{digits}]}}}}'.encode()
    for admitted in (
        admit_json(b"[%b,%b,%b]" % (good, bad, good), RULES),
        admit_ndjson(b"%b\n%b\n%b" % (good, bad, good), RULES),
    ):
        assert (admitted.accepted, admitted.refused) == (3, [])
        assert admitted.remarks is not None
        assert [(entry.position, entry.field) for entry in admitted.remarks.dropped] == [(1, "power_w")]
        row = rows_of(admitted)[1]
        assert (row["power_mw"], row["soc_mpct"]) == (None, 50_000)
        assert json.loads(row["extra"])["dropped"]["power_w"] == digits
    (row,) = rows_of(admit_json(bad, RULES))
    assert row["soc_mpct"] == 50_000


@pytest.mark.parametrize("rest", [b"\xff", b"\\ud800"])
def test_a_number_beyond_every_float_hides_no_damage(rest: bytes) -> None:
    good = as_json(GOOD)
    bad = good[:-1] + b',"mode":[1e400,"%b"]}' % rest
    admitted = admit_json(b"[%b,%b]" % (bad, good), RULES)
    assert admitted.accepted + len(admitted.refused) == 2
    assert all((row["extra"] or "").encode().decode() == (row["extra"] or "") for row in rows_of(admitted))


def test_with_strict_a_number_beyond_every_float_refuses_its_reading() -> None:
    bad = as_json(GOOD)[:-1] + b',"power_w":1e400}'
    (refused,) = admit_json(b"[%b]" % bad, replace(RULES, strict=True)).refused
    assert refused.reason == "not_finite"


@pytest.mark.parametrize(
    ("fields", "power_mw"),
    [
        ({"power_l1_w": 2_300.1, "power_l2_w": 2_300.1, "power_l3_w": 2_400.1}, 7_000_300),
        ({"power_l2_w": "3680"}, 3_680_000),
        ({"power_l1_w": 0, "power_l2_w": 0.0, "power_l3_w": None}, 0),
        ({"power_l1_w": 2_300, "power_w": 0}, 0),
        ({"power_l1_w": 2_300, "power_w": -1e9}, 2_300_000),
        ({"power_l1_w": -2_300, "power_l2_w": -2_300}, -4_600_000),
        ({"power_l1_w": 2_300, "power_export_w": 300}, 2_000_000),
        ({"power_l1_w": 9e6, "power_l2_w": 9e6}, None),
        ({"voltage_l1_v": 230, "current_l1_a": 10}, None),
    ],
)
def test_the_sum_of_the_phases_is_the_power_where_none_is_given(fields: dict[str, Any], power_mw: int | None) -> None:
    item = GOOD | {"power_factor": 1} | fields
    for other in ({}, {"fan_rpm": 9}):  # decoded at once, and field by field
        (row,) = rows_of(admit_json(as_json([item | other]), RULES))
        assert row["power_mw"] == power_mw


def test_a_foreign_station_is_refused_and_ids_compare_without_case() -> None:
    admitted = admit_json(as_json([GOOD | {"station_id": name} for name in ("cp1", "CP9", "Cp2")]), BOUND)
    assert [row["station_id"] for row in rows_of(admitted)] == ["CP1", "CP2"]
    assert [(item.position, item.reason) for item in admitted.refused] == [(1, "station_forbidden")]


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"\xef\xbb\xbf"])
def test_an_empty_body_is_no_json(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="empty"):
        admit_json(body, RULES)


@pytest.mark.parametrize("body", [b"[]", b" [ ] "])
def test_an_empty_array_has_no_readings(body: bytes) -> None:
    admitted = admit_json(body, RULES)
    assert (admitted.accepted, admitted.refused) == (0, [])
    assert rows_of(admitted) == []


@pytest.mark.parametrize(
    ("body", "position"),
    [(b"station", 0), (b'{"ts": }', 7), (b'[{"a":1}', 8), (b"[1] x", 4), (b'{"a":1}}', 7), (b'\xef\xbb\xbf{"a":}', 8)],
)
def test_a_body_that_is_not_json_is_refused_with_the_position(body: bytes, position: int) -> None:
    with pytest.raises(MalformedBody) as caught:
        admit_json(body, RULES)
    assert caught.value.position == position


@pytest.mark.parametrize("body", [b"[" * 200_000, b'["' * 9, b'{"a":' * 200_000, b'"x"', b"1"])
def test_json_without_readings_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        admit_json(body, RULES)


def test_too_many_items_are_too_large_in_every_form() -> None:
    good = as_json(GOOD)
    for admit, body in (
        (admit_json, b"[" + b",".join([good] * 1_001) + b"]"),
        (admit_json, b"[" + b"1," * 1_001 + b"1]"),
        (admit_json, b"[" + b"1," * 1_600_000 + b"1]"),
        (admit_ndjson, b"\n".join([good] * 1_002)),
        (admit_ndjson, b"\n" * 2_000_000),
    ):
        with pytest.raises(TooLarge):
            admit(body, RULES)


def test_a_large_raw_item_is_cut() -> None:
    (refused,) = admit_json(as_json([GOOD | {"note": "x" * 100_000}]), STRICT).refused
    assert len(refused.raw) == RAW_ITEM_BYTES_MAX


# The float product alone would round these the wrong way, as it does 0.6 % of all halves.
_MISROUNDED = [66313.4435, 4154.7025, 8680961738.3005, 65.87650000000001, 225.30949999999999, 2.0015, 0.0005, -0.0015]
_halves = st.integers(-(10**13), 10**13).map(lambda n: float(Decimal(2 * n + 1) / 2_000))


@given(st.lists(st.floats(-1e12, 1e12) | _halves | st.sampled_from(_MISROUNDED), min_size=1))
@example(_MISROUNDED)
def test_thousandths_are_the_decimals_rounded_half_even(values: list[float]) -> None:
    expected = [int((Decimal(repr(value)) * 1_000).to_integral_value(ROUND_HALF_EVEN)) for value in values]
    assert thousandths_all(np.array(values)).tolist() == expected
    assert [thousandths(value) for value in values] == expected


_digits = st.text("0123456789", min_size=1, max_size=9)
_texts = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}{}{}{}".format,
    st.sampled_from([0, 1, 1677, 1678, 1970, 2026, 2261, 2262, 9999]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from(["T", " ", "t"]),
    st.integers(0, 25),
    st.sampled_from(["", ":00", ":59:59", ":60:00", ":00:60", ":1:1"]),
    st.just("") | _digits.map(".{}".format),
    st.sampled_from(["Z", "", "z", "+00:00", "-00:00", "+14:00", "-23:59", "+24:00", "+0530", "+05", "+5", "+05:60"]),
) | st.text(max_size=30)


@given(st.lists(_texts, min_size=1, max_size=3))
def test_times_are_read_alike_one_by_one_and_all_at_once(texts: list[str]) -> None:
    for text in texts:
        repeated = epoch_ms_all([text] * MANY)
        assert repeated.tolist() == [epoch_ms(text)] * MANY


def test_times_before_the_epoch_are_rounded_to_the_past() -> None:
    text = "1969-12-31T23:59:59.9995Z"
    assert epoch_ms(text) == -1
    assert epoch_ms_all([text] * MANY).tolist() == [-1] * MANY
    assert epoch_ms("1969-12-31T23:59:59.9995") == UNREADABLE


def test_wire_names_are_those_of_the_schemas() -> None:
    assert list(get_args(StatusName)) == list(STATUS_NAMES)
    assert list(get_args(SessionEventName)) == list(SESSION_EVENT_NAMES)
    columns = {name: column for name, (column, *_) in QUANTITIES.items()} | {"ts": "ts_ms"}
    assert {columns.get(name, name) for name in FIELDS} == set(PLAIN_READING_SCHEMA.names)
    assert READING_SCHEMA.names == [*PLAIN_READING_SCHEMA.names, "energy_export_mwh", "extra"]
