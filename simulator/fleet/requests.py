"""Starts and stops that somebody asks a fleet for, connector by connector, until its next step carries them out."""

from typing import Final

from schemas.reading import Status

# Where a station starts a session that is asked for. In Finishing too: OCPP 1.6 lets the next transaction begin there
# before the cable is out (transition F2 of its status table).
STARTABLE: Final = frozenset({Status.AVAILABLE, Status.FINISHING})
OPEN: Final = frozenset({Status.PREPARING, Status.CHARGING, Status.SUSPENDED_EV})


class ConnectorRequests:
    """What is asked of the connectors of one fleet. `slot` is as in Fleet."""

    def __init__(self) -> None:
        self._starts: dict[int, bytes] = {}  # slot -> session_id
        self._stops: set[int] = set()

    def start(self, slot: int, status: Status, session_id: bytes) -> bool:
        """Have a car plugged in. False where the connector is in use or asked for already: a charger rejects that."""
        if status not in STARTABLE or slot in self._starts:
            return False
        self._starts[slot] = session_id
        return True

    def stop(self, slot: int, status: Status, running: bytes, session_id: bytes | None) -> bool:
        """End that session, or the start that waits (None: whichever there is). False where there is none such.

        `running` is the session of the connector, where `status` says that there is one.
        """
        waiting = self._starts.get(slot)
        if waiting is not None and session_id in (None, waiting):
            del self._starts[slot]
            return True
        if status not in OPEN or session_id not in (None, running):
            return False
        self._stops.add(slot)
        return True

    def take(self) -> tuple[dict[int, bytes], list[int]]:
        """The starts (slot -> session_id) and the stops since they were last taken, in order of slot."""
        taken = dict(sorted(self._starts.items())), sorted(self._stops)
        self._starts.clear()
        self._stops.clear()
        return taken
