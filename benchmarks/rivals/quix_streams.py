"""Quix Streams, as in its manual: one JSON message per reading, one-minute windows that count readings and sum power,
in its RocksDB store with changelog topics; closed windows to a topic. At least once, the default.

`python -m benchmarks.rivals.quix_streams KAFKA TOPIC OUTPUT FOLDER` consumes the topic until it is ended.
"""

import sys
from typing import Any, Final

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

_WINDOW_MS: Final = 60_000


def main(kafka: str, topic: str, output: str, folder: str) -> None:
    """Count and sum until ended."""
    app = Application(
        broker_address=kafka, consumer_group=f"{topic}-quix", auto_offset_reset="earliest", state_dir=folder
    )
    source = app.topic(topic, value_deserializer="json", timestamp_extractor=_event_time_ms)
    closed = (
        app.dataframe(source)
        .tumbling_window(_WINDOW_MS)  # by message key: one connector
        .agg(readings=Count(), power_w=Sum("power_w"))
        .final()
    )
    closed.apply(_row, metadata=True).to_topic(app.topic(output, value_serializer="json"))
    app.run()


def _event_time_ms(value: Any, headers: Any, timestamp: float, timestamp_type: Any) -> int:
    return int(value["ts"] * 1_000)


def _row(window: Any, key: Any, timestamp: int, headers: Any) -> dict[str, Any]:
    station_id, _, connector_id = key.decode().rpartition("/")
    return {
        "station_id": station_id,
        "connector_id": int(connector_id),
        "minute": window["start"] // _WINDOW_MS,
        "readings": window["readings"],
        "power_w": window["power_w"],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
