"""Numbers of the connectors of a Location: those that the station has already stay. Pure.

OCPI numbers connectors within an EVSE, and readings within a station.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from api.stations.registry.models import Connector
from schemas.reading import CONNECTOR_ID_MAX, MAIN_METER

_DIGITS_MAX: Final = len(str(CONNECTOR_ID_MAX))


@dataclass(frozen=True, slots=True)
class Plug:
    """A connector of a Location, as far as its number depends on it."""

    evse: int  # its EVSE's place in the Location
    evse_id: str | None
    id: str
    kind: tuple[object, object, object]  # standard, format and power type


def numbers_of(plugs: Sequence[Plug], known: Iterable[Connector]) -> list[int]:
    """The number of each of these connectors, in their order.

    A connector of a known EVSE keeps its number, by its id where all ids are the station's own numbers, else by its
    kind and its place. A new one has its id's number, or the lowest that the station does not have.
    """
    own = _own_numbers(plugs)
    stored: dict[str | None, dict[int, Connector]] = {}
    for one in known:
        stored.setdefault(one.evse_id, {})[one.connector_id] = one
    taken = {number for of_evse in stored.values() for number in of_evse}
    unnamed = stored.get(None, {})
    unnamed.pop(MAIN_METER, None)
    order = sorted(range(len(plugs)), key=lambda place: (plugs[place].evse, len(plugs[place].id), plugs[place].id))
    numbers: dict[int, int] = {}
    for evse_id in dict.fromkeys(plug.evse_id for plug in plugs):
        places = [place for place in order if plugs[place].evse_id == evse_id]
        numbers |= _matched(plugs, places, stored.get(evse_id, {}), own)
    used = set(numbers.values())
    for place in order:  # of an EVSE that is new: the connector may have been registered without one
        number = own.get(place)
        if place not in numbers and number is not None and (number not in taken or number in unnamed.keys() - used):
            numbers[place] = number
            used.add(number)
    free = (number for number in itertools.count(MAIN_METER + 1) if number not in taken | used)
    numbers |= dict(zip([place for place in order if place not in numbers], free, strict=False))
    return [numbers[place] for place in range(len(plugs))]


def _own_numbers(plugs: Sequence[Plug]) -> dict[int, int]:
    """By places the ids as numbers; empty unless they can be numbers of one station's connectors."""
    if not all(plug.id.isascii() and plug.id.isdecimal() and len(plug.id) <= _DIGITS_MAX for plug in plugs):
        return {}
    numbers = [int(plug.id) for plug in plugs]
    possible = len(set(numbers)) == len(numbers) and all(MAIN_METER < one <= CONNECTOR_ID_MAX for one in numbers)
    return dict(enumerate(numbers)) if possible else {}


def _matched(
    plugs: Sequence[Plug], places: Sequence[int], stored: Mapping[int, Connector], own: Mapping[int, int]
) -> dict[int, int]:
    """Numbers of an EVSE's connectors by their places, of those that are known."""
    if own and all(own[place] in stored for place in places):
        return {place: own[place] for place in places}
    rest = {number: (one.standard, one.format, one.power_type) for number, one in sorted(stored.items())}
    found: dict[int, int] = {}
    for any_kind in (False, True):
        for place in places:
            if place in found:
                continue
            number = next((one for one, kind in rest.items() if any_kind or kind == plugs[place].kind), None)
            if number is not None:
                found[place] = number
                del rest[number]
    return found
