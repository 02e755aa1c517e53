"""The registered facts of the simulated fleet's stations, so that its charges can be exported as OCPI CDRs."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from api.stations.registry.models import ConnectorFacts, StationFacts
from api.stations.registry.service import Registered
from schemas.connector import ConnectorFormat, ConnectorStandard, PowerType
from simulator.fleet.charger import ChargerType
from simulator.fleet.fleet import charger_types
from simulator.fleet.spec import FleetSpec, station_name

_LATITUDE, _LONGITUDE = Decimal("52.370216"), Decimal("4.895168")  # Amsterdam, as the default tariff's time zone
_APART: Final = Decimal("0.001")  # degrees from one station to the next: 110 m
_ROW: Final = 100  # stations from west to east
REGISTERED_MAX: Final = 10_000  # ~2 s; a larger fleet is for load, and nobody exports its charges


def simulated_stations(spec: FleetSpec) -> Mapping[str, Registered]:
    """The first stations of a fleet with their connectors. Without rated power: the fleet's surges go beyond it."""
    return {
        station_name(spec.prefix, number): (
            _station(number),
            {connector: _connector(kind, number, connector) for connector in range(1, spec.connectors + 1)},
        )
        for number, kind in enumerate(charger_types(spec)[:REGISTERED_MAX])
    }


def _station(number: int) -> StationFacts:
    south, east = divmod(number, _ROW)
    return StationFacts(
        name=f"Simulated station {number}",
        address=f"Simulated street {number + 1}",
        city="Amsterdam",
        postal_code="1012 JS",
        country="NLD",
        latitude=_LATITUDE - south * _APART,
        longitude=_LONGITUDE + east * _APART,
        time_zone="Europe/Amsterdam",
    )


def _connector(kind: ChargerType, number: int, connector: int) -> ConnectorFacts:
    alternating = PowerType.AC_1_PHASE if kind.phases == 1 else PowerType.AC_3_PHASE
    return ConnectorFacts(
        standard=ConnectorStandard.IEC_62196_T2_COMBO if kind.is_dc else ConnectorStandard.IEC_62196_T2,
        format=ConnectorFormat.CABLE if kind.is_dc else ConnectorFormat.SOCKET,
        power_type=PowerType.DC if kind.is_dc else alternating,
        evse_id=f"NL*SIM*E{number:06d}*{connector}",
    )
