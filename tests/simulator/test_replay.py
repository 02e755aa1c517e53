"""Laws of replay: nothing skipped whenever it is killed, the same rows from every format, the file's own order."""

import asyncio
import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from ingest.admission import AdmissionRules, admit_arrow, admit_json, admit_ndjson
from kit.clock import ManualClock
from kit.errors import Unavailable
from simulator.encode import Format
from simulator.errors import ProgressError, SourceError
from simulator.replay.columns import Columns
from simulator.replay.ordering import Ordering
from simulator.replay.replay import Replay, ReplaySpec, encode_rows, readings_of
from simulator.transports import Receipt, Tally
from tests.simulator.fleets import admitted_columns

BOLITE = Path(__file__).parents[3] / "shared/data/bolite/bolite_dc_timeseries.csv.gz"
BOLITE_COLUMNS = Columns.parse(["ts=ts_ms"], ["station_id=BOLITE-{session_id[:4]}", "connector_id=1"])
ROWS = [
    {
        "station_id": "A",
        "connector_id": "1",
        "seq": str(at),
        "ts": str(1_767_600_000_000 + 5_000 * at),
        "power_w": f"{at}.25",
    }
    for at in range(120)
]


class Recorder:
    """A transport that keeps what was acknowledged, and fails after a given number."""

    def __init__(self, dies_after: int | None = None, *, takes_the_last: bool = False) -> None:
        self.tally = Tally()
        self.rows: list[dict[str, Any]] = []  # in acknowledged bodies
        self.left = dies_after
        self.takes_the_last = takes_the_last

    async def send(self, body: bytes, form: Format, count: int) -> Receipt:
        await asyncio.sleep(0)
        if self.left == 0:
            if self.takes_the_last:
                self.rows += json.loads(body)
            raise Unavailable("killed")
        if self.left is not None:
            self.left -= 1
        self.rows += json.loads(body)
        receipt = Receipt(accepted=count)
        self.tally.add(count, receipt)
        return receipt

    async def close(self) -> None:
        pass


@pytest.fixture
def a_csv(tmp_path: Path) -> Path:
    path = tmp_path / "readings.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def a_spec(file: Path, **more: Any) -> ReplaySpec:
    return ReplaySpec(**{"file": file, "target": "http://a", "progress_dir": file.parent / "p", "batch": 10, **more})


async def run(spec: ReplaySpec, transport: Recorder) -> Replay:
    replay = Replay(spec, ManualClock())
    await replay.run(transport, lambda _: None)
    return replay


def seqs(transport: Recorder) -> list[int]:
    return [row["seq"] for row in transport.rows]


@pytest.mark.parametrize("takes_the_last", [False, True])
@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("order", [Ordering(), Ordering(shuffle_s=60, resend_pct=5, seed=4)])
@pytest.mark.parametrize("chunk_rows", [64, 1_000])
async def test_killed_after_any_batch_nothing_is_skipped(
    a_csv: Path, in_flight: int, order: Ordering, takes_the_last: bool, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.replay.files.CHUNK_ROWS", chunk_rows)
    whole = Recorder()
    await run(a_spec(a_csv, ordering=order), whole)
    for batches in range(-(-len(whole.rows) // 10)):
        spec = a_spec(a_csv, ordering=order, in_flight=in_flight, progress_dir=a_csv.parent / f"p{batches}")
        first, second = Recorder(batches, takes_the_last=takes_the_last), Recorder()
        with pytest.raises(Unavailable):
            await run(spec, first)
        replay = await run(spec, second)
        missing = Counter(seqs(whole)) - Counter(seqs(first) + seqs(second))
        assert not missing
        assert replay.resumed_from <= len(first.rows)
        assert seqs(second) == seqs(whole)[replay.resumed_from :]
        assert replay.complete


async def test_ctrl_c_notes_what_was_on_its_way(a_csv: Path) -> None:
    sending, answer = asyncio.Event(), asyncio.Event()

    class Slow(Recorder):
        async def send(self, body: bytes, form: Format, count: int) -> Receipt:
            sending.set()
            await answer.wait()
            return await super().send(body, form, count)

    transport = Slow()
    replay = Replay(a_spec(a_csv, in_flight=1), ManualClock())
    task = asyncio.create_task(replay.run(transport, lambda _: None))
    await sending.wait()
    await asyncio.sleep(0)
    task.cancel()
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert replay.rows == len(transport.rows) == 10
    assert Replay(a_spec(a_csv), ManualClock()).resumed_from == 10


async def test_a_whole_file_is_sent_again_only_with_restart(a_csv: Path) -> None:
    await run(a_spec(a_csv), Recorder())
    again, anew = Recorder(), Recorder()
    assert (await run(a_spec(a_csv), again)).complete
    await run(a_spec(a_csv, restart=True), anew)
    assert (len(again.rows), len(anew.rows)) == (0, 120)


def test_progress_is_of_this_file_target_order_and_columns(a_csv: Path) -> None:
    asyncio.run(run(a_spec(a_csv), Recorder()))
    others = [
        a_spec(a_csv, target="http://b"),
        a_spec(a_csv, ordering=Ordering(sort=True)),
        a_spec(a_csv, columns=Columns.parse(sets=["status=Charging"])),
    ]
    assert [Replay(spec, ManualClock()).rows for spec in others] == [0, 0, 0]
    assert Replay(a_spec(a_csv, batch=3), ManualClock()).complete
    a_csv.write_text(a_csv.read_text().replace("199.25", "199.5"))
    assert not Replay(a_spec(a_csv), ManualClock()).complete


async def test_unreadable_progress_says_the_mend(a_csv: Path) -> None:
    await run(a_spec(a_csv), Recorder())
    for file in (a_csv.parent / "p").iterdir():
        file.write_bytes(b"\0\0")
    with pytest.raises(ProgressError, match="--restart"):
        Replay(a_spec(a_csv), ManualClock())


@pytest.mark.parametrize("chunk_rows", [64, 1_000])
def test_all_formats_give_the_same_rows(a_csv: Path, chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.replay.files.CHUNK_ROWS", chunk_rows)
    folder = a_csv.parent
    typed = [
        {**row, "connector_id": 1, "seq": int(row["seq"]), "ts": int(row["ts"]), "power_w": float(row["power_w"])}
        for row in ROWS
    ]
    lines = "\n".join(map(json.dumps, typed))
    (folder / "r.ndjson").write_text(lines)
    (folder / "r.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "r.csv.gz").write_bytes(gzip.compress(a_csv.read_bytes()))
    pyarrow.parquet.write_table(pa.Table.from_pylist(typed), folder / "r.parquet", row_group_size=37)
    names = ["readings.csv", "r.ndjson", "r.jsonl.gz", "r.csv.gz", "r.parquet"]
    first, *others = ([*rows(a_spec(folder / name))] for name in names)
    assert first == others[0] == others[1] == others[2] == others[3]
    assert [row["seq"] for row in first] == list(range(120))
    assert first[3]["power_w"] == 3.25


def test_every_body_format_is_admitted_alike(a_csv: Path) -> None:
    rules = AdmissionRules(now_ms=1_767_700_000_000, age_ms_max=10**11, future_ms_max=0, readings_max=1_000)
    (table,) = readings_of(a_spec(a_csv))
    answers = [
        admit_json(encode_rows(table, Format.JSON), rules),
        admit_ndjson(encode_rows(table, Format.NDJSON), rules),
        admit_arrow(encode_rows(table, Format.ARROW), rules),
    ]
    assert [answer.refused for answer in answers] == [[], [], []]
    tables = [admitted_columns(answer) for answer in answers]
    assert tables[0].to_pylist() == tables[1].to_pylist() == tables[2].to_pylist()
    assert tables[0].num_rows == 120


def rows(spec: ReplaySpec) -> Iterator[dict[str, Any]]:
    return (row for table in readings_of(spec) for row in table.to_pylist())


def test_bolite_file_comes_whole_and_in_its_order(tmp_path: Path) -> None:
    if not BOLITE.exists():
        pytest.skip(f"third-party data is not here: {BOLITE.name}")
    spec = a_spec(BOLITE, columns=BOLITE_COLUMNS, progress_dir=tmp_path)
    with gzip.open(BOLITE, "rt") as stream:
        expected = list(csv.DictReader(stream))
    count = 0
    for row, wanted in zip(rows(spec), expected, strict=True):
        assert row["station_id"] == f"BOLITE-{wanted['session_id'][:4]}"
        assert (row["session_id"], row["seq"], row["ts"]) == (
            wanted["session_id"],
            int(wanted["seq"]),
            int(wanted["ts_ms"]),
        )
        assert [row[name] for name in ("power_w", "voltage_v", "current_a")] == [
            float(wanted[name]) for name in ("power_w", "voltage_v", "current_a")
        ]
        count += 1
    assert count == 132_546


async def test_real_time_waits_as_long_as_the_readings_lie_apart(a_csv: Path) -> None:
    clock = ManualClock()
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        clock.advance(seconds)

    transport = Recorder()
    await Replay(a_spec(a_csv, speed=10.0), clock, nap).run(transport, lambda _: None)
    assert sum(naps) == pytest.approx(119 * 5 / 10)
    assert seqs(transport) == list(range(120))


def test_missing_file_and_unknown_kind_are_said(tmp_path: Path) -> None:
    for name, word in (("none.csv", "no such file"), ("a.xlsx", "replay reads")):
        with pytest.raises(SourceError, match=word):
            list(readings_of(a_spec(tmp_path / name)))
