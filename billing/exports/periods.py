"""The charging periods of CDRs: what was used, by when it was first used. Pure."""

from typing import Final

import numpy as np
import pyarrow as pa

from billing.exports.export_batches import Lines, letter
from kit.columnar_json import (
    Bools,
    Ints,
    Pieces,
    Texts,
    concatenate,
    json_arrays,
    json_decimals,
    json_objects,
    json_timestamps,
)
from schemas.tariff import Dimension

_TYPES: Final = (Dimension.ENERGY, Dimension.TIME, Dimension.PARKING_TIME, "RESERVATION_TIME")  # FLAT is no CDR's
_ENERGY, _RESERVED = 0, 3
_OPENINGS: Final = pa.array([f'{{"type":"{type_}","volume":' for type_ in _TYPES])
_TYPE_OF: Final = np.zeros(256, np.int8)
for _place, _type in enumerate(_TYPES[:_RESERVED]):
    _TYPE_OF[letter(_type)] = _place


def hours(durations_ms: Ints) -> Ints:
    """In millionths, rounded half up: 3.6 ms. The whole ones first, or it might not fit."""
    whole, rest_ms = np.divmod(durations_ms, 18)  # ms in five millionths
    millionths: Ints = 5 * whole + (5 * rest_ms + 9) // 18
    return millionths


def periods(started_ms: Ints, reserved: Bools, volumes: Ints, lines: Lines, tariff_id: Texts) -> Pieces:
    """JSON lists. The first period begins with the charge, whether anything was used by then or not.

    Of each document when it began, whether it is a reservation and the JSON of its tariff's id, if any; `volumes`: of
    the lines, none below 0.
    """
    used = lines.dimension != letter(Dimension.FLAT)
    document, since_ms, types = lines.document[used], lines.since_ms[used], _TYPE_OF[lines.dimension[used]]
    micros = np.where(types == _ENERGY, volumes[used], hours(volumes[used]))
    types[reserved[document] & (types != _ENERGY)] = _RESERVED

    idle = np.ones(len(started_ms), np.bool_)
    idle[document[since_ms <= started_ms[document]]] = False
    document = np.concatenate((document, np.flatnonzero(idle)))
    since_ms = np.concatenate((since_ms, started_ms[idle]))
    types = np.concatenate((types, np.where(reserved[idle], _RESERVED, _ENERGY).astype(np.int8)))
    micros = np.concatenate((micros, np.zeros(np.count_nonzero(idle), np.int64)))

    order = np.lexsort((since_ms, document))
    dimensions = concatenate((_OPENINGS.take(pa.array(types[order])), json_decimals(micros[order]), "}"))
    document = document[order]
    began_ms = np.maximum(since_ms[order], started_ms[document])
    first = np.flatnonzero(_differs(document) | _differs(began_ms))
    document = document[first]
    members = {
        "start_date_time": json_timestamps(began_ms[first]),
        "dimensions": json_arrays(dimensions, np.append(first, len(dimensions))),
        "tariff_id": (tariff_id.take(pa.array(document)),),
    }
    return json_arrays(concatenate(json_objects(members)), np.append(np.flatnonzero(_differs(document)), len(document)))


def _differs(values: Ints) -> Bools:
    """From the one before; the first one does."""
    differs = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=differs[1:])
    return differs
