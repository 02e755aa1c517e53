"""What a PromQL expression names, and whether there is such a thing; promtool does the parsing."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from voltstream.metrics_catalogue import declared_metrics

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = ("objectives.yml", "alerts.yml")
_EVERY_SCRAPE: Final = frozenset({"job", "instance"})
_ALERT: Final = frozenset({"alertname", "alertstate", "severity"})

# Of others, with their source: Prometheus itself; prometheus_client's collectors of every process; node_exporter 1.x;
# RabbitMQ's plugin rabbitmq_prometheus, at /metrics/per-object;
# oliver006/redis_exporter.
_OTHERS: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(),
    "ALERTS": _ALERT,
    "alertmanager": frozenset(),  # a host in the configuration
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "node_filesystem_avail_bytes": frozenset({"device", "fstype", "mountpoint"}),
    "node_filesystem_size_bytes": frozenset({"device", "fstype", "mountpoint"}),
    "rabbitmq_queue_messages_ready": frozenset({"queue", "vhost"}),
    "rabbitmq_queue_messages_unacked": frozenset({"queue", "vhost"}),
    "redis_keyspace_hits_total": frozenset(),
    "redis_keyspace_misses_total": frozenset(),
    "redis_memory_used_bytes": frozenset(),
}
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "ignoring", "on", "by", "without", "inf", "nan"})
_STRING: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\}|\()?")
_MATCHER: Final = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")


def rules() -> list[dict[str, Any]]:
    """All recording rules and alerts."""
    documents = [yaml.safe_load((PROMETHEUS / name).read_text()) for name in RULES]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def _known() -> dict[str, frozenset[str]]:
    """Labels by the name of the series."""
    own = {
        name: frozenset(one.labels) | ({"le"} if name.endswith("_bucket") else set())
        for one in declared_metrics()
        for name in one.series
    }
    recorded = {rule["record"]: frozenset[str]() for rule in rules() if "record" in rule}  # all of them are sums
    return {name: labels | _EVERY_SCRAPE for name, labels in {**own, **recorded, **_OTHERS}.items()}


KNOWN: Final = _known()


def faults(expression: str) -> Iterator[str]:
    """What it names that is not there: series, and labels of series."""
    text = re.sub(r"\[[^\]]*\]", "", _STRING.sub('""', expression))
    groupings = [label.strip() for labels in _GROUPING.findall(text) for label in labels.split(",") if label.strip()]
    text = re.sub(r"\boffset\s+\w+", "", _GROUPING.sub("", text))
    text = re.sub(r"(?<![\w:])\d[\d.e]*[a-z]*", "", text)
    possible: set[str] = set()
    for name, rest in _SELECTOR.findall(text):
        if rest == "(" or name in _WORDS:
            continue
        if name not in KNOWN:
            yield f"no metric {name}"
            continue
        possible |= KNOWN[name]
        yield from (f"{name} has no label {label}" for label in _MATCHER.findall(rest) if label not in KNOWN[name])
    yield from (f"nothing here has the label {label}" for label in groupings if label not in possible)
