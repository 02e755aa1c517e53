"""The margin of demand pricing: what a charge comes to excl. VAT, less what it would by the tariff that a demand rule
moved. Nothing that is paid follows from it.

A rule moves ENERGY prices and nothing else, so both tariffs have the same components and the same quantities of each:
the consumption of the charge is priced once more.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from msgspec.structs import replace

from billing import rating
from billing.documents import ChargeDraft, SubjectKind
from billing.errors import BadEvent
from billing.invoicing import store
from billing.invoicing.derivation import reserved_of
from billing.invoicing.tariffs import VERSIONS_MAX, parse_tariff
from kit.messaging.outbox import Transaction
from kit.observability.logs import get_logger
from schemas.tariff import Tariff

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tariff version comes from."""

    by_demand: bool
    base: Tariff | None  # which the rule moved; None: not known, or operators published the version


OPERATORS: Final = Origin(by_demand=False, base=None)
UNKNOWN: Final = Origin(by_demand=True, base=None)


def demand_margin(draft: ChargeDraft, origin: Origin) -> int | None:
    """Micro-units excl. VAT, below 0 where demand made it cheaper. None: it has no price, or the base is not known."""
    if draft.amount is None:
        return None
    if not origin.by_demand or draft.kind is SubjectKind.RESERVATION:  # which has no ENERGY
        return 0
    if origin.base is None:
        return None
    reserved = reserved_of(draft.reserved_excl_micros, draft.reserved_incl_micros)
    try:
        by_base = rating.price(origin.base, draft.own_consumption, reserved=reserved)
    except ValueError as error:  # no rule makes such a version; an invoice must not wait for this figure
        _log.error("base_is_of_other_components", subject_id=str(draft.subject_id), reason=str(error))
        return None
    return draft.amount.excl_micros - by_base.total_excl_micros


class DemandMargins:
    """Adds their margins to drafts. Of each version it asks pricing once: neither it nor its base ever changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, Origin] = OrderedDict()
        self._bases: WeakValueDictionary[UUID, Tariff] = WeakValueDictionary()  # of `_known`: many versions have one

    async def added(self, connection: Transaction, drafts: Sequence[ChargeDraft]) -> list[ChargeDraft]:
        """The same drafts in order, with the margins of their amounts as they are now."""
        asked = {
            draft.tariff_version
            for draft in drafts
            if draft.tariff_version is not None and draft.amount is not None and draft.kind is SubjectKind.SESSION
        }
        origins = await self._origins(connection, asked)
        return [
            replace(draft, demand_margin_micros=demand_margin(draft, _origin_of(draft, origins))) for draft in drafts
        ]

    async def _origins(self, connection: Transaction, versions: set[UUID]) -> dict[UUID, Origin]:
        unknown = versions - self._known.keys()
        if unknown:
            for row in await store.bases(connection, sorted(unknown)):
                self._known[row["id"]] = self._origin(row["by_demand"], row["base_id"], row["base_tariff"])
        found = {}
        for version in versions:
            origin = found[version] = self._known.setdefault(version, UNKNOWN)
            if origin is UNKNOWN and version in unknown:
                _log.warning("base_of_tariff_unknown", version=str(version))
            self._known.move_to_end(version)
        while len(self._known) > VERSIONS_MAX:
            self._known.popitem(last=False)
        return found

    def _origin(self, by_demand: bool, base_id: UUID | None, document: str | None) -> Origin:
        if not by_demand:
            return OPERATORS
        if base_id is None or document is None:
            return UNKNOWN
        base = self._bases.get(base_id)
        if base is None:
            try:
                base = parse_tariff(document)
            except BadEvent as error:
                _log.error("base_is_no_tariff", version=str(base_id), reason=str(error))
                return UNKNOWN
            self._bases[base_id] = base
        return Origin(by_demand=True, base=base)


def _origin_of(draft: ChargeDraft, origins: dict[UUID, Origin]) -> Origin:
    return UNKNOWN if draft.tariff_version is None else origins.get(draft.tariff_version, UNKNOWN)
