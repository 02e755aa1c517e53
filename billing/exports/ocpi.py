"""OCPI 2.2.1 CDRs (module CDRs) of documents: an invoice is a CDR, a credit note a Credit CDR of the same one. Pure.

Numbers are JSON numbers, exact: sums of the CDRs are sums of the documents. The parts of a charge are listed where each
component of the tariff was first used, with all that was used of it; components that alternate are not separated.
Every CDR is whole by OCPI's cardinalities: documents whose station lacks a fact of CdrLocation are not given to this.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID, uuid5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.exports.export_batches import DocumentBatch, Lines, letter
from billing.exports.locations import NOT_AVAILABLE
from billing.exports.ocpi_tariffs import printable
from billing.exports.periods import hours, periods
from kit.columnar_json import (
    Bools,
    Ints,
    Pieces,
    Texts,
    choose_text,
    concatenate,
    json_decimals,
    json_objects,
    json_of,
    json_strings,
    json_timestamps,
    where,
)
from schemas.tariff import Dimension

REMARK_CHARS_MAX: Final = 255  # OCPI's bound
TOKEN_CHARS_MAX: Final = 36  # of a CiString, as tokens have it
_UNUSUAL: Final = len(NOT_AVAILABLE) + 1  # characters; among shorter ids may be one that says something else
_NAMESPACE: Final = UUID("5d0b1c52-8a0e-4d0b-9d0f-3c5a6b1e7f21")

_UJ_PER_MWH: Final = 3_600_000  # a mWh is a millionth of a kWh
_COSTS: Final[Mapping[str, str]] = {
    Dimension.FLAT: "total_fixed_cost",
    Dimension.ENERGY: "total_energy_cost",
    Dimension.TIME: "total_time_cost",
    Dimension.PARKING_TIME: "total_parking_cost",
}


class Party(NamedTuple):
    """The party that issues the CDRs."""

    country_code: str  # ISO 3166-1 alpha-2
    party_id: str  # of eMI3


class Tariffs(NamedTuple):
    """The tariffs of a batch's documents, JSON."""

    ids: Texts  # null where there is none
    documents: Texts  # a dictionary's; empty where there is none


def cdrs(documents: DocumentBatch, lines: Lines, tariffs: Tariffs, locations: Texts, party: Party) -> Pieces:
    """The documents' CDRs; `locations`: the JSON of each one's CdrLocation, perhaps a dictionary's.

    Of a Credit CDR only `total_cost` is below 0: the rest is the original's.
    """
    credit = documents.bools("credit")
    cdr_id, session_id = documents.texts("cdr_id"), documents.texts("session_id")
    unknown = documents.missing("driver_id")
    started_ms, ended_ms = documents.moments_ms("started_at"), documents.moments_ms("ended_at")
    reserved = documents.missing("session_id")
    signs = np.where(credit, -1, 1)[lines.document]
    return json_objects(
        {
            **_members(party),
            "id": ('"', cdr_id, choose_text(credit, '-C"', '"')),
            "start_date_time": json_timestamps(started_ms),
            "end_date_time": json_timestamps(ended_ms),
            "session_id": ('"', session_id, '"'),
            "cdr_token": _token(documents, unknown, party),
            # A known driver requested the session; an unknown one only plugged in.
            "auth_method": (choose_text(unknown, '"WHITELIST"', '"COMMAND"'),),
            "cdr_location": (locations,),
            "currency": json_strings(documents.texts("currency")),
            "tariffs": ("[", tariffs.documents, "]"),
            "charging_periods": periods(started_ms, reserved, signs * lines.volume, lines, tariffs.ids),
            "total_cost": _price(documents.ints("total_excl_micros"), documents.ints("total_incl_micros")),
            "total_energy": (json_decimals(documents.ints("energy_uj") // _UJ_PER_MWH),),
            "total_time": (json_decimals(hours(ended_ms - started_ms)),),
            **_parts(lines, signs, reserved),
            "remark": json_strings(_remark(documents)),
            "invoice_reference_id": json_strings(documents.texts("number")),
            "credit": where(credit, ("true",)),
            "credit_reference_id": where(credit, ('"', cdr_id, '"')),
            "last_updated": json_timestamps(documents.moments_ms("issued_at")),
        }
    )


def _parts(lines: Lines, signs: Ints, reserved: Bools) -> dict[str, Pieces]:
    """Sums of the lines by dimension; those of a reservation are of one kind."""
    of_reservation = reserved[lines.document]
    of = {name: (lines.dimension == letter(dimension)) & ~of_reservation for dimension, name in _COSTS.items()}
    of["total_reservation_cost"] = of_reservation
    excl_micros, incl_micros = signs * lines.excl_micros, signs * lines.incl_micros
    parts: dict[str, Pieces] = {}
    for name, mask in of.items():
        if mask.any():
            document = lines.document[mask]
            amounts = (_sums(document, micros[mask], len(reserved)) for micros in (excl_micros, incl_micros))
            parts[name] = where(np.bincount(document, minlength=len(reserved)) > 0, _price(*amounts))
    parked = lines.dimension == letter(Dimension.PARKING_TIME)
    if parked.any():
        parked_ms = _sums(lines.document[parked], (signs * lines.volume)[parked], len(reserved))
        parts["total_parking_time"] = where(parked_ms != 0, (json_decimals(hours(parked_ms)),))
    return parts


def _sums(document: Ints, values: Ints, count: int) -> Ints:
    """By document; bincount would sum floats."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, document, values)
    return sums


def _price(excl_micros: Ints, incl_micros: Ints) -> Pieces:
    return json_objects({"excl_vat": (json_decimals(excl_micros),), "incl_vat": (json_decimals(incl_micros),)})


def _token(documents: DocumentBatch, unknown: Bools, party: Party) -> Pieces:
    """A driver's; of an unknown one a token of that one charge."""
    once = pc.coalesce(documents.texts("session_id"), documents.texts("cdr_id"))
    uid = json_strings(pc.coalesce(_ci_strings(documents.texts("driver_id")), once))
    type_ = (choose_text(unknown, '"AD_HOC_USER"', '"APP_USER"'),)
    return json_objects({**_members(party), "uid": uid, "type": type_, "contract_id": uid})


def _ci_strings(driver_id: Texts) -> Texts:
    """Tokens' CiStrings: a text that is none is a UUID that follows from it."""
    data = np.frombuffer(driver_id.buffers()[2] or b"", np.uint8)
    sizes = pc.binary_length(driver_id)
    ascii_ = bool(((data >= ord(" ")) & (data <= ord("~"))).all())
    if ascii_ and not pc.any(pc.or_(pc.less(sizes, _UNUSUAL), pc.greater(sizes, TOKEN_CHARS_MAX))).as_py():
        return driver_id
    drivers = driver_id.dictionary_encode()
    return pa.array([_ci_string(one) for one in drivers.dictionary.to_pylist()], pa.string()).take(drivers.indices)


def _ci_string(text: str) -> str:
    fits = 1 <= len(text) <= TOKEN_CHARS_MAX and text.isascii() and text.isprintable() and text != NOT_AVAILABLE
    return text if fits else str(uuid5(_NAMESPACE, text))


def _remark(documents: DocumentBatch) -> Texts:
    reason, nothing = documents.texts("reason"), pa.scalar(None, pa.string())
    said = (
        pc.if_else(pc.equal(reason, ""), nothing, reason),
        concatenate(("ended: ", documents.texts("end_reason"))),
        pc.if_else(documents.texts("estimated"), "estimated", nothing),
    )
    remarks = pc.binary_join_element_wise(*said, "; ", null_handling="skip").dictionary_encode()
    return pa.array([printable(one, REMARK_CHARS_MAX) for one in remarks.dictionary.to_pylist()], pa.string()).take(
        remarks.indices
    )


def _members(party: Party) -> dict[str, Pieces]:
    return {name: (json_of(value),) for name, value in party._asdict().items()}
