"""Pathway, as in its manual: one JSON message per reading, one-minute windows that count readings and sum power, with
persistence in a folder, the default mode; every change of a window to a topic.

`python -m benchmarks.rivals.pathway_flow KAFKA TOPIC OUTPUT FOLDER [SETTING=VALUE …]` consumes the topic until it is
ended. The settings are the consumer's. Its manual sets none for offsets, so they are committed regularly, and killed
before its first snapshot is complete it goes on from there, without the readings; not so with enable.auto.commit=false.
"""

import sys
from typing import Final

import pathway as pw

_WINDOW_S: Final = 60


def main(kafka: str, topic: str, output: str, folder: str, *more: str) -> None:
    """Count and sum until ended."""
    settings = {"bootstrap.servers": kafka, "group.id": f"{topic}-pathway", "auto.offset.reset": "earliest"}
    settings |= dict(setting.split("=", 1) for setting in more)
    schema = pw.schema_from_types(station_id=str, connector_id=int, ts=float, power_w=float)
    readings = pw.io.kafka.read(settings, topic=topic, schema=schema, format="json", name="readings")
    windows = readings.windowby(
        pw.this.ts,
        window=pw.temporal.tumbling(duration=float(_WINDOW_S), origin=0.0),
        instance=pw.make_tuple(pw.this.station_id, pw.this.connector_id),
    ).reduce(
        station_id=pw.this._pw_instance.get(0),
        connector_id=pw.this._pw_instance.get(1),
        minute=pw.cast(int, pw.this._pw_window_start) // _WINDOW_S,
        readings=pw.reducers.count(),
        power_w=pw.reducers.sum(pw.this.power_w),
    )
    pw.io.kafka.write(windows, settings, topic_name=output, format="json")
    backend = pw.persistence.Backend.filesystem(folder)
    pw.run(persistence_config=pw.persistence.Config(backend), monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(*sys.argv[1:])
