"""The limits of what is sent, as clients, metrics and the log name them."""

from typing import Final

from kit.web.limits.refusals import HOUR_S, MINUTE_S, Limit

READINGS: Final = Limit(
    "readings",
    "readings a minute of this token",
    "wait, and send no more than that (operators: gateway.…readings_per_minute)",
    MINUTE_S,
)
QUARANTINE: Final = Limit(
    "quarantine",
    "refused items an hour of this token",
    "mend them (operators: gateway.quarantined_per_hour)",
    HOUR_S,
)
NEW_STATIONS: Final = Limit(
    "new_stations",
    "new stations an hour of this token",
    "send readings of fewer stations that never sent any, or use tokens that name their stations "
    "(operators: gateway.new_stations_per_hour)",
    HOUR_S,
)
NEW_WEEKS: Final = Limit(
    "new_weeks",
    "weeks an hour, of which this token is the first to send readings",
    "send old readings week by week (operators: gateway.new_weeks_per_hour)",
    HOUR_S,
)
