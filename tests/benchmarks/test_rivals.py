"""What the `rivals` stage compares counts with, and how it reads what rivals write. Starts nothing."""

from collections import Counter

import msgspec
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import BY_NAME, STAGES
from benchmarks.rivals import messages
from benchmarks.rivals.by_hand import Reading
from benchmarks.rivals.installation import REQUIREMENTS
from benchmarks.rivals.output import decode_faust_change, decode_row
from benchmarks.stages.rivals import verdict

WINDOW = ("CS-00001", 1, 29_833_334)


def record(key: bytes, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord("t", 0, 0, 0, 0, key, value, None, len(key), 0, ())


@given(st.integers(0, 5_000), st.booleans())
def test_truth_counts_every_message_but_those_that_close_windows(readings: int, closing: bool) -> None:
    sent = [
        msgspec.json.decode(value, type=Reading)
        for partition in range(messages.PARTITIONS)
        for _, value in messages.messages(readings, partition, closing=closing)
    ]
    counted = Counter((reading.station_id, reading.connector_id, int(reading.ts) // 60) for reading in sent)
    right = messages.truth(readings)
    assert sum(right.values()) == readings
    assert {key: counted.pop(key) for key in right} == right
    assert counted.total() == (messages.CONNECTORS if closing else 0)
    assert len({key[2] for key in counted}) <= 2, "closing readings are in minutes of their own"


def test_losses_and_double_counts_do_not_cancel_out() -> None:
    right = {("a", 1, 0): 10, ("b", 1, 0): 10}
    assert verdict(right, right) == "exact"
    assert verdict({("a", 1, 0): 13, ("b", 1, 0): 7}, right) == "3 readings lost and 3 readings counted twice"
    assert verdict({("a", 1, 0): 10}, right) == "10 readings lost"


def test_a_row_counts_unless_it_is_taken_back() -> None:
    row = {"station_id": "CS-00001", "connector_id": 1, "minute": WINDOW[2], "readings": 7, "power_w": 77.0}
    assert decode_row(record(b"", msgspec.json.encode(row))) == (WINDOW, 7)
    assert decode_row(record(b"", msgspec.json.encode(row | {"diff": -1, "time": 2}))) is None


def test_a_change_of_stock_fausts_table_counts_if_it_is_one_of_readings() -> None:
    span_s = [WINDOW[2] * 60.0, WINDOW[2] * 60 + 59.9]
    assert decode_faust_change(record(msgspec.json.encode(["CS-00001/1/n", span_s]), b"7.0")) == (WINDOW, 7)
    assert decode_faust_change(record(msgspec.json.encode(["CS-00001/1/sum", span_s]), b"7.0")) is None
    assert decode_faust_change(record(msgspec.json.encode(["CS-00001/1/n", span_s]), None)) is None


def test_stages_that_download_run_only_if_asked_for() -> None:
    assert not set(BY_NAME) & set(STAGES)


def test_rivals_are_pinned() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(line.count("==") == 1 for line in lines)
