"""Bytewax, as in its manual: one JSON message per reading, one-minute windows that count readings and sum power, with
recovery from snapshots in SQLite, one every 10 s, the default; closed windows to a topic.

`python -m benchmarks.rivals.bytewax_flow KAFKA TOPIC OUTPUT FOLDER` consumes the topic until it is ended.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kafka_op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

_WINDOW: Final = timedelta(minutes=1)
_SNAPSHOT_INTERVAL: Final = timedelta(seconds=10)
# Its watermark goes on with the clock: with none of this a reading that waits for a busy processor is late and dropped.
_WAIT: Final = timedelta(seconds=10)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Sums = tuple[int, float]  # readings, power_w


def flow(kafka: str, topic: str, output: str) -> Any:
    """The dataflow."""
    built = Dataflow("windows")
    source = kafka_op.input("readings", built, brokers=[kafka], topics=[topic])
    readings = op.map("decode", source.oks, _keyed)
    windows = win.fold_window(
        "windows",
        readings,
        win.EventClock(_event_time, wait_for_system_duration=_WAIT),
        win.TumblingWindower(length=_WINDOW, align_to=_EPOCH),
        lambda: (0, 0.0),
        _add,
        lambda one, other: (one[0] + other[0], one[1] + other[1]),
    )
    kafka_op.output("closed", op.map("encode", windows.down, _row), brokers=[kafka], topic=output)
    return built


def main(kafka: str, topic: str, output: str, folder: str) -> None:
    """Count and sum until ended."""
    if not Path(folder).exists():
        Path(folder).mkdir()
        init_db_dir(Path(folder), 1)
    recovery = RecoveryConfig(folder, backup_interval=timedelta(0))
    cli_main(flow(kafka, topic, output), epoch_interval=_SNAPSHOT_INTERVAL, recovery_config=recovery)


def _keyed(message: Any) -> tuple[str, dict[str, Any]]:
    reading = orjson.loads(message.value)
    return f"{reading['station_id']}/{reading['connector_id']}", reading


def _event_time(reading: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(reading["ts"], UTC)


def _add(sums: Sums, reading: dict[str, Any]) -> Sums:
    return sums[0] + 1, sums[1] + reading["power_w"]


def _row(item: tuple[str, tuple[int, Sums]]) -> Any:
    key, (window, (readings, power_w)) = item
    station_id, _, connector_id = key.rpartition("/")
    row = {
        "station_id": station_id,
        "connector_id": int(connector_id),
        "minute": window,  # windows are numbered from `align_to`
        "readings": readings,
        "power_w": power_w,
    }
    return KafkaSinkMessage(key.encode(), orjson.dumps(row))


if __name__ == "__main__":
    main(*sys.argv[1:])
