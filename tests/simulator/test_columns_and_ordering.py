"""Laws of columns (nothing is left out by accident, errors say how to fix it) and of the order of sending."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from simulator.errors import SourceError
from simulator.replay.columns import WIRE_SCHEMA, Columns
from simulator.replay.ordering import Ordering

TS = 1_767_600_000_000


def a_table(**columns: list[Any]) -> pa.Table:
    return pa.table({"station_id": ["A"], "connector_id": [1], "ts": [TS], **columns})


def first(table: pa.Table, **options: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = Columns.parse(**options).apply(table, 1).to_pylist()[0]
    return {name: value for name, value in row.items() if value is not None}


def test_columns_are_renamed_set_and_cut() -> None:
    table = pa.table({"h": ["7.5"], "when": ["2026-01-05T08:00:00Z"], "id": ["0007-042"], "note": ["x"]})
    row = first(
        table,
        maps=["power_w=h", "ts=when", "session_id=id"],
        sets=["station_id=S-{id[:4]}", "connector_id=1", "boot={id[5:]}", "seq={id[-2:]}", "status=Charging"],
        ignore=["note"],
    )
    assert row == {
        "station_id": "S-0007",
        "connector_id": 1,
        "session_id": "0007-042",
        "boot": 42,
        "seq": 42,
        "ts": TS,
        "power_w": 7.5,
        "status": "Charging",
    }


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (["1767600000000"], TS),
        (["2026-01-05T09:00:00.5+01:00"], TS + 500),
        (pa.array([TS * 1_000], pa.timestamp("us", "UTC")), TS),
        ([float(TS)], TS),
    ],
)
def test_moments_are_read_in_every_way_they_are_written(ts: Any, expected: int) -> None:
    assert first(a_table(ts=ts))["ts"] == expected


def test_what_the_device_did_not_give_is_left_out() -> None:
    assert "power_w" not in first(a_table(power_w=[float("nan")], soc_pct=[None]))


@pytest.mark.parametrize(
    ("table", "options", "word"),
    [
        (a_table(pwr_w=[1]), {}, r"--map power_w=pwr_w.*--ignore pwr_w"),
        (a_table(ts_ms=[1]).drop_columns("ts"), {}, r"--map ts=ts_ms"),
        (a_table().drop_columns("station_id"), {}, r"needs station_id.*--set station_id="),
        (a_table(), {"maps": ["power_w=h"]}, "no column h"),
        (a_table(), {"ignore": ["h"]}, "no column h"),
        (a_table(), {"maps": ["powr_w=ts"]}, r"no field powr_w \(did you mean power_w\?\)"),
        (a_table(), {"maps": ["power_w"]}, "field=column"),
        (a_table(), {"sets": ["boot={ts[4]}"]}, r"\{column\[0:4\]\}"),
        (a_table(), {"sets": ["boot=1", "boot=2"]}, "twice"),
        (a_table(), {"sets": ["ts=1"]}, "--ignore ts"),
        (a_table(power_w=["lots"]), {}, "row 1: power_w is 'lots'"),
        (a_table(power_w=["inf"]), {}, "row 1: power_w is infinite"),
        (a_table(ts=["yesterday"]), {}, "row 1: ts is 'yesterday'"),
        (a_table(ts=pa.array([TS], pa.timestamp("ms"))), {}, "no time zone"),
        (a_table(seq=[1.5]), {}, "row 1: seq is 1.5"),
    ],
)
def test_what_is_wrong_is_said_with_its_mend(table: pa.Table, options: dict[str, list[str]], word: str) -> None:
    with pytest.raises(SourceError, match=word):
        first(table, **options)


def test_options_in_another_order_are_the_same_columns() -> None:
    one = Columns.parse(["ts=a", "seq=b"], ignore=["x", "y"])
    assert repr(one) == repr(Columns.parse(["seq=b", "ts=a"], ignore=["y", "x"]))


def readings_by_station(count: int, *, stations: int = 3) -> list[pa.Table]:
    """Stations one after the other, as the Bolite file has them, in tables of 1,000 rows."""
    rows = [
        {"station_id": f"S{station}", "connector_id": 1, "seq": at, "ts": TS + 15_000 * at}
        for station in range(stations)
        for at in range(count)
    ]
    table = pa.Table.from_pylist(rows, schema=WIRE_SCHEMA)
    return [table.slice(at, 1_000) for at in range(0, len(rows), 1_000)]


def sent(order: Ordering, tables: list[pa.Table]) -> list[tuple[str, int, int]]:
    return [(row["station_id"], row["seq"], row["ts"]) for table in order.apply(tables) for row in table.to_pylist()]


def test_shuffle_stays_within_its_window_and_resends_the_share(seed: int) -> None:
    plain = sent(Ordering(), readings_by_station(700))
    disturbed = sent(Ordering(shuffle_s=60, resend_pct=5, seed=seed), readings_by_station(700))
    extra = Counter(disturbed) - Counter(plain)
    assert set(disturbed) == set(plain)
    assert sum(extra.values()) == pytest.approx(0.05 * len(plain), rel=0.5)
    assert disturbed != plain
    for station in ("S0", "S1", "S2"):
        ts = np.array([row[2] for row in disturbed if row[0] == station])
        assert 0 < (np.maximum.accumulate(ts) - ts).max() <= 60_000


def test_resend_alone_keeps_the_order_of_first_sendings(seed: int) -> None:
    disturbed = sent(Ordering(resend_pct=10, seed=seed), readings_by_station(700))
    assert list(dict.fromkeys(disturbed)) == sent(Ordering(), readings_by_station(700))
    assert len(disturbed) > len(set(disturbed))


def test_same_seed_same_order(seed: int) -> None:
    order = Ordering(shuffle_s=60, resend_pct=5, seed=seed)
    assert sent(order, readings_by_station(700)) == sent(order, readings_by_station(700))
    assert sent(order, readings_by_station(700)) != sent(
        Ordering(shuffle_s=60, resend_pct=5, seed=seed + 1), readings_by_station(700)
    )


def test_sorted_is_by_time_and_stable() -> None:
    rows = sent(Ordering(sort=True), readings_by_station(700))
    assert rows == sorted(sent(Ordering(), readings_by_station(700)), key=lambda row: row[2])
