"""Dashboards of what it stands on, and of its objectives.

RabbitMQ's figures are of its plugin rabbitmq_prometheus, Redis's of redis_exporter, disks' of node_exporter.
"""

from typing import Final

from deploy.grafana.panels import RATE, Dashboard, Panel, Query, rate

EVENTS: Final = Dashboard(
    "voltstream-events",
    "voltstream: RabbitMQ and events",
    {
        "Queues": [
            Panel("Frames ready", "short", (Query("sum by (partition) (bridge_queue_frames)", "{{partition}}"),)),
            Panel(
                "Depth by queue",
                "short",
                (Query("topk(20, sum by (queue) (rabbitmq_queue_messages_ready))", "{{queue}}"),),
            ),
            Panel(
                "Not acknowledged",
                "short",
                (Query("topk(20, sum by (queue) (rabbitmq_queue_messages_unacked))", "{{queue}}"),),
            ),
            Panel("Dead letters", "short", (Query("sum by (queue) (increase(dead_letters_total[1h]))", "{{queue}}"),)),
        ],
        "Bridge": [
            Panel(
                "Frames and records to Kafka",
                "cps",
                (
                    Query(f"sum(rate(bridge_frames_total[{RATE}]))", "frames"),
                    Query(f"sum(rate(bridge_records_total[{RATE}]))", "records"),
                ),
            ),
            Panel(
                "Taken and not confirmed",
                "short",
                (Query("sum by (partition) (bridge_frames_in_hand)", "{{partition}}"),),
            ),
        ],
        "Events": [
            Panel("Published", "cps", (rate("events_published_total", "schema"),)),
            Panel("Handled by outcome", "cps", (rate("events_consumed_total", "outcome"),)),
            Panel("Outbox: events", "short", (Query("max by (schema) (outbox_backlog_events)", "{{schema}}"),)),
            Panel("Outbox: oldest", "s", (Query("max by (schema) (outbox_oldest_age_seconds)", "{{schema}}"),)),
        ],
    },
)


STORES: Final = Dashboard(
    "voltstream-stores",
    "voltstream: Redis, disks, processes",
    {
        "Redis": [
            Panel(
                "Hit rate",
                "percentunit",
                (
                    Query(
                        f"sum(rate(redis_keyspace_hits_total[{RATE}])) / (sum(rate(redis_keyspace_hits_total[{RATE}]))"
                        f" + sum(rate(redis_keyspace_misses_total[{RATE}])))"
                    ),
                ),
            ),
            Panel("Memory", "bytes", (Query("sum by (instance) (redis_memory_used_bytes)", "{{instance}}"),)),
            Panel("Writes to the live view that failed", "cps", (rate("streams_live_put_failures_total"),)),
        ],
        "Disks": [
            Panel(
                "Free",
                "percentunit",
                (
                    Query("data_folder_free_bytes / data_folder_size_bytes", "{{instance}} data folder"),
                    Query(
                        'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"}'
                        ' / node_filesystem_size_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"}',
                        "{{instance}} {{mountpoint}}",
                    ),
                ),
            ),
        ],
        "Processes": [
            Panel("Processor", "percentunit", (Query(f"rate(process_cpu_seconds_total[{RATE}])", "{{instance}}"),)),
            Panel("Memory", "bytes", (Query("process_resident_memory_bytes", "{{instance}}"),)),
        ],
    },
)


SLO: Final = Dashboard(
    "voltstream-slo",
    "voltstream: objectives",
    {
        "Thirty days": [
            Panel(
                "Requests without a 5xx (objective 99.9 %)",
                "percentunit",
                (
                    Query(
                        '1 - sum(increase(http_requests_total{status=~"5.."}[30d]))'
                        " / sum(increase(http_requests_total[30d]))"
                    ),
                ),
                is_stat=True,
            ),
            Panel(
                "Within 200 ms (objective 95 %)",
                "percentunit",
                (
                    Query(
                        'sum(increase(http_request_duration_seconds_bucket{le="0.2",route!~".*/stream"}[30d]))'
                        ' / sum(increase(http_request_duration_seconds_count{route!~".*/stream"}[30d]))'
                    ),
                ),
                is_stat=True,
            ),
            Panel(
                "Processes there (objective 99.5 %)",
                "percentunit",
                (Query('avg(avg_over_time(up{job="voltstream"}[30d]))'),),
                is_stat=True,
            ),
        ],
        "Burnt": [
            Panel(
                "Errors, times the budget",
                "short",
                tuple(
                    Query(f"voltstream:http_errors:ratio_rate{window} / 0.001", window)
                    for window in ("5m", "1h", "6h", "3d")
                ),
                "1: the budget of thirty days lasts thirty days",
            ),
            Panel(
                "Slow requests, times the budget",
                "short",
                tuple(Query(f"voltstream:http_slow:ratio_rate{window} / 0.05", window) for window in ("5m", "1h")),
            ),
            Panel(
                "Processes down, times the budget",
                "short",
                tuple(Query(f"voltstream:down:ratio{window} / 0.005", window) for window in ("5m", "1h", "6h")),
            ),
            Panel(
                "Alerts that fire",
                "short",
                (Query('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} {{severity}}"),),
            ),
        ],
    },
)
