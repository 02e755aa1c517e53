"""Dashboards of what the platform does: API, ingestion, stream, money, stations."""

from typing import Final

from deploy.grafana.panels import RATE, Dashboard, Panel, Query, quantiles, rate

_REQUESTS: Final = '{route!~".*/stream"}'  # those that last are no requests in this sense

API: Final = Dashboard(
    "voltstream-api",
    "voltstream: API",
    {
        "Requests": [
            Panel("Throughput by status", "reqps", (rate("http_requests_total", "status"),)),
            Panel("Latency", "s", quantiles("http_request_duration_seconds", matching=_REQUESTS)),
            Panel("Throughput by route", "reqps", (rate("http_requests_total", "route"),)),
            Panel(
                "p95 by route",
                "s",
                quantiles("http_request_duration_seconds", "route", _REQUESTS)[1:2],
            ),
            Panel("Refused by limits", "reqps", (rate("http_requests_limited_total", "limit"),)),
            Panel("Connections", "short", (Query("sum by (instance) (http_connections)", "{{instance}}"),)),
        ],
        "Database": [
            Panel(
                "p95 of queries by pool",
                "s",
                (
                    Query(
                        f"histogram_quantile(0.95, sum by (pool, le) (rate(db_query_duration_seconds_bucket[{RATE}])))",
                        "{{pool}}",
                    ),
                ),
            ),
            Panel("Queries by statement", "ops", (rate("db_query_duration_seconds_count", "statement"),)),
        ],
    },
)


INGESTION: Final = Dashboard(
    "voltstream-ingestion",
    "voltstream: telemetry ingestion",
    {
        "Readings": [
            Panel(
                "Rate",
                "cps",
                (
                    Query(f"sum(rate(ingest_readings_accepted_total[{RATE}]))", "accepted"),
                    Query(f"sum(rate(ingest_readings_refused_total[{RATE}]))", "refused"),
                    Query(f'sum(rate(streams_readings_total{{outcome="stored"}}[{RATE}]))', "stored"),
                ),
            ),
            Panel("Refused by reason", "cps", (rate("ingest_readings_refused_total", "reason"),)),
            Panel("Outcomes", "cps", (rate("streams_readings_total", "outcome"),)),
            Panel("Bodies", "Bps", (rate("ingest_body_bytes_total"),)),
        ],
        "Frames": [
            Panel("Until durable", "s", quantiles("ingest_append_seconds")),
            Panel("Items in a frame", "short", quantiles("ingest_frame_items")),
            Panel("Not durable yet", "short", (Query("sum(ingest_frames_unconfirmed)"),)),
            Panel("Failed", "cps", (rate("ingest_frames_failed_total"),)),
        ],
    },
)


STREAM: Final = Dashboard(
    "voltstream-stream",
    "voltstream: stream",
    {
        "Lag": [
            Panel(
                "Records that wait in the log",
                "short",
                (Query("streams_log_end_offset - streams_next_offset", "{{partition}}"),),
            ),
            Panel(
                "Oldest frame read and not stored",
                "s",
                (Query("max by (partition) (streams_progress_age_seconds)", "{{partition}}"),),
            ),
        ],
        "Flush": [
            Panel("p95 by stage", "s", quantiles("streams_flush_seconds", "stage")[1:2]),
            Panel(
                "Time by stage",
                "percentunit",
                (Query(f"sum by (stage) (rate(streams_flush_seconds_sum[{RATE}]))", "{{stage}}"),),
                "of one processor's",
            ),
            Panel("Frames", "cps", (rate("streams_frames_total", "partition"),)),
            Panel("State written", "Bps", (rate("streams_state_bytes_total"),)),
            Panel("Commits tried again", "cps", (rate("streams_commit_retries_total", "partition"),)),
        ],
        "Windows and ledgers": [
            Panel("Windows merged", "cps", (rate("streams_windows_merged_total"),)),
            Panel("Sessions written", "cps", (rate("streams_sessions_written_total"),)),
            Panel(
                "Accepted without an outcome, and stored in no window yet",
                "short",
                (
                    Query(
                        'sum(max by (partition) (ledger_readings{state="accepted"}))'
                        ' - sum(max by (partition) (ledger_readings{state="accounted"}))',
                        "in flight",
                    ),
                    Query(
                        'sum(max by (partition) (ledger_readings{state="stored"}))'
                        ' - sum(max by (partition) (ledger_readings{state="in_windows"}))',
                        "in no window",
                    ),
                ),
            ),
            Panel(
                "Connectors whose ledger of energy does not close",
                "short",
                (Query("sum(increase(energy_ledger_unbalanced_connectors_total[1d]))"),),
                "of those sampled in the last day",
                is_stat=True,
            ),
        ],
        "Energy": [
            Panel("By owner", "watth", (rate("streams_energy_accounted_wh_total", "owner"),), "Wh a second"),
            Panel(
                "Outside of sessions",
                "percentunit",
                (Query("voltstream:energy_outside_sessions:ratio1h"),),
                is_stat=True,
            ),
        ],
    },
)


MONEY: Final = Dashboard(
    "voltstream-money",
    "voltstream: money",
    {
        "Charges": [
            Panel("By outcome", "cps", (rate("billing_claims_total", "outcome"),)),
            Panel("Documents issued", "cps", (rate("billing_documents_total", "kind"),)),
            Panel(
                "Put aside for a person, a day",
                "short",
                (Query("sum by (reason) (increase(billing_waiting_total[1d]))", "{{reason}}"),),
            ),
            Panel(
                "Decisions of people",
                "short",
                (Query("sum by (decision) (increase(billing_decisions_total[1d]))", "{{decision}}"),),
            ),
        ],
        "Truth": [
            Panel(
                "Drift, a day",
                "short",
                (Query("sum(increase(billing_drift_total[1d]))"),),
                "charges that the stream and billing compute differently",
                is_stat=True,
            ),
            Panel("Last reconciliation: drifts", "short", (Query("max(billing_reconcile_drifts)"),), is_stat=True),
            Panel(
                "Since the last reconciliation",
                "s",
                (Query("time() - max(billing_reconcile_finished_timestamp_seconds)"),),
                is_stat=True,
            ),
            Panel(
                "Events of a transaction",
                "short",
                quantiles("billing_batch_events")[1:2],
                is_stat=True,
            ),
        ],
        "Notifications": [
            Panel("Attempts", "cps", (rate("notifications_attempts_total", "outcome"),)),
        ],
    },
)


STATIONS: Final = Dashboard(
    "voltstream-stations",
    "voltstream: stations",
    {
        "Now": [
            Panel("Connectors by status", "short", (Query("max by (status) (stations_connectors)", "{{status}}"),)),
            Panel(
                "Silent",
                "percentunit",
                (
                    Query(
                        'max(stations_connectors{status="Silent"})'
                        ' / sum(max by (status) (stations_connectors{status!="Unknown"}))'
                    ),
                ),
                is_stat=True,
            ),
            Panel("Charging", "short", (Query('max(stations_connectors{status="Charging"})'),), is_stat=True),
        ],
        "Behind it": [
            Panel(
                "Registered without a tariff, a day",
                "short",
                (Query("sum(increase(pricing_stations_without_tariff_total[1d]))"),),
                is_stat=True,
            ),
            Panel("Fields that readings cannot have", "cps", (rate("ingest_fields_dropped_total", "reason"),)),
        ],
    },
)
