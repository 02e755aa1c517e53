"""Stations of a file that want an EVSE of another station. Pure."""

from collections.abc import Collection, Iterator, Mapping


def evse_clashes(wanted: Mapping[str, Collection[str]], holders: Mapping[str, str]) -> dict[str, str]:
    """Why stations are refused, by their ids, so that each EVSE of the others is at one station.

    `wanted`: EVSE ids that each station of the file shall have, in the file's order. `holders`: the stations that have
    them now. Of two stations of the file the one that has the EVSE keeps it, else the first. A refused station keeps
    what it has, which refuses others in turn.
    """
    wanting: dict[str, list[str]] = {}
    for name, evse_ids in wanted.items():
        for evse_id in evse_ids:
            wanting.setdefault(evse_id, []).append(name)
    held: dict[str, list[str]] = {}
    for evse_id, holder in holders.items():
        held.setdefault(holder, []).append(evse_id)
    reasons: dict[str, str] = {}
    waiting = list(_first_clashes(wanting, holders, wanted))
    while waiting:
        name, evse_id, holder = waiting.pop()
        if name in reasons:
            continue
        reasons[name] = f"{evse_id} is an EVSE of station {holder}: an EVSE is at one station"
        waiting += [
            (other, mine, name) for mine in held.get(name, ()) for other in wanting.get(mine, ()) if other != name
        ]
    return reasons


def _first_clashes(
    wanting: Mapping[str, list[str]], holders: Mapping[str, str], of_the_file: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    for evse_id, names in wanting.items():
        holder = holders.get(evse_id)
        if holder is None or (holder in of_the_file and holder not in names):
            holder = names[0]
        yield from ((name, evse_id, holder) for name in names if name != holder)
