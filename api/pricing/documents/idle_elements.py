"""Elements and components of a tariff that can never count. Pure.

OCPI lets authors order elements as they like, so such a tariff is right, and priced as it stands; but its author may
have meant another. The rules are those by which tariffs are rated (docs/adr/0009): lower bounds are inclusive and upper
ones exclusive, of several components of a dimension in one element the first counts, and of elements the first whose
restrictions hold. Where times are equal the day is whole: an `end_time` at or before `start_time` wraps.
"""

from collections.abc import Iterator
from typing import Final

from schemas.tariff import Dimension, Tariff, TariffElement, TariffRestrictions

_RANGES: Final = ("kwh", "current", "power", "duration")


def idle_elements(tariff: Tariff) -> Iterator[str]:
    """What can never count, each with its path inside the tariff, why, and what would make it count."""
    for number, element in enumerate(tariff.elements):
        path = f"elements/{number}"
        if element.restrictions is not None:
            yield from (f"{path}/restrictions/{what}" for what in _empty_ranges(element.restrictions))
        yield from (f"{path}/price_components/{what}" for what in _repeated(element))
    yield from _unreachable(tariff)


def _empty_ranges(restrictions: TariffRestrictions) -> Iterator[str]:
    for name in _RANGES:
        low, high = getattr(restrictions, f"min_{name}"), getattr(restrictions, f"max_{name}")
        if high is not None and (low or 0) >= high:
            yield f"max_{name} is not above {low or 0}, the least: the element never applies; raise max_{name}"
    first, end = restrictions.start_date, restrictions.end_date
    if first is not None and end is not None and first >= end:
        yield f"end_date is not after start_date, {first}: the element never applies; write the day after its last"


def _repeated(element: TariffElement) -> Iterator[str]:
    seen: set[Dimension] = set()
    for number, component in enumerate(element.price_components):
        if component.type in seen:
            yield f"{number} is a second {component.type} in its element and never counts: leave one out"
        seen.add(component.type)


def _unreachable(tariff: Tariff) -> Iterator[str]:
    """Elements for reservations are left out here: reservations are rated apart, by those elements alone."""
    always: dict[Dimension, int] = {}
    for number, element in enumerate(tariff.elements):
        if element.restrictions is not None and element.restrictions.reservation is not None:
            continue
        for place, component in enumerate(element.price_components):
            if component.type in always:
                yield (
                    f"elements/{number}/price_components/{place} never counts: elements/{always[component.type]} "
                    f"has {component.type} without restrictions; put that one last, or leave this one out"
                )
        if _unrestricted(element):
            always.update(dict.fromkeys((c.type for c in element.price_components if c.type not in always), number))


def _unrestricted(element: TariffElement) -> bool:
    """A lower bound of 0 restricts nothing either."""
    return element.restrictions is None or not any(element.restrictions.model_dump().values())
