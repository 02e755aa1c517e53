"""What a document asks for, by VAT rate, in whole minor units of its currency (docs/adr/0010). Pure.

The amounts of lines are micro-units. Paper and e-invoices have minor units, and EN 16931's business rules hold between
them: the lines of a rate sum to its net amount, its VAT is net times rate rounded half up (BR-CO-17), and nets, VAT
and the rounding amount (BT-114) sum to what is to be paid (BR-CO-10 to 16). What is to be paid is given and never
changes here: it is the exact total incl. VAT, rounded once.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

import msgspec

from billing.lines import CORRECTION, CREDIT, DocumentLine

BOUNDS: Final = ("MIN_PRICE", "MAX_PRICE")
"""Dimensions of the lines that adjust a charge to a tariff's minimum or maximum price."""
_NOT_USED: Final = (*BOUNDS, CREDIT, CORRECTION)
MILLION: Final = 1_000_000
RATES_TRIED_MAX: Final = 8  # 2^8 ways to round their nets; a tariff has one or two rates
_RATE_STEP: Final = 100  # of an implied rate: a hundredth of a percent

Rate = int | None
"""Millionths; None: no VAT applies."""


class PayableLine(NamedTuple):
    """A line with its rate. An adjustment to a minimum or maximum price is a line of each rate that it concerns."""

    place: int  # of the line among those given, from 0
    line: DocumentLine
    vat_ppm: Rate
    net_minor: int

    @property
    def is_adjustment(self) -> bool:
        """Whether it adjusts the charge to a minimum or maximum price."""
        return self.line.dimension in BOUNDS


class RateTotal(NamedTuple):
    """What is to be paid at one rate."""

    vat_ppm: Rate
    net_minor: int
    vat_minor: int

    @property
    def gross_minor(self) -> int:
        """Incl. VAT."""
        return self.net_minor + self.vat_minor


class PayableAmounts(NamedTuple):
    """A document in minor units: lines in their order, rates from the highest on, those without VAT last."""

    lines: tuple[PayableLine, ...]
    rates: tuple[RateTotal, ...]
    payable_minor: int

    @property
    def net_minor(self) -> int:
        """Excl. VAT: of all lines."""
        return sum(rate.net_minor for rate in self.rates)

    @property
    def vat_minor(self) -> int:
        """The VAT of all rates."""
        return sum(rate.vat_minor for rate in self.rates)

    @property
    def rounding_minor(self) -> int:
        """What nets and VAT lack to what is to be paid; below 0: what they exceed it by."""
        return self.payable_minor - self.net_minor - self.vat_minor


class _Taxed(NamedTuple):
    place: int
    line: DocumentLine
    vat_ppm: Rate
    net_micros: int
    incl_micros: int


def payable_amounts(
    lines: Sequence[DocumentLine], payable_minor: int, minor_digits: int, net_minor: int | None = None
) -> PayableAmounts:
    """The lines of a document in minor units. A credit note's are those of its invoice with the sign reversed. The
    remark that the consumption was corrected (CORRECTION) asks for nothing, and is no line here.

    Of each rate the net amount is its exact one, rounded down or up: whichever leaves least between nets with VAT and
    what is to be paid, of equals the nearest. Lines have their rate's net by largest remainder. `net_minor`: what the
    nets sum to, where that is known; of credit notes it is, so that those of an invoice sum to its net amount.
    """
    if payable_minor < 0 or (payable_minor == 0 and sum(line.incl_micros for line in lines) < 0):
        of = None if net_minor is None else -net_minor
        mirrored = payable_amounts([line.negated() for line in lines], -payable_minor, minor_digits, of)
        return PayableAmounts(
            tuple(PayableLine(one.place, one.line.negated(), one.vat_ppm, -one.net_minor) for one in mirrored.lines),
            tuple(RateTotal(rate.vat_ppm, -rate.net_minor, -rate.vat_minor) for rate in mirrored.rates),
            payable_minor,
        )
    unit_micros: int = 10 ** (6 - minor_digits)
    taxed = _taxed(lines)
    exact_micros: dict[Rate, int] = {}
    for one in taxed:
        exact_micros[one.vat_ppm] = exact_micros.get(one.vat_ppm, 0) + one.net_micros
    rates = sorted(exact_micros, key=lambda rate: -1 if rate is None else rate, reverse=True)
    nets = _rounded_nets([(rate, exact_micros[rate]) for rate in rates], payable_minor, unit_micros, net_minor)
    return PayableAmounts(
        _divided(taxed, nets, unit_micros),
        tuple(RateTotal(rate, nets[rate], vat_of(nets[rate], rate)) for rate in rates),
        payable_minor,
    )


def amounts_by_rate(lines: Sequence[DocumentLine]) -> dict[Rate, tuple[int, int]]:
    """Net and VAT of lines by rate, in micro-units, as `payable_amounts` takes them: an adjustment counts to every rate
    that it concerns, and its net amount follows from what is to be paid."""
    found: dict[Rate, tuple[int, int]] = {}
    for one in _taxed(lines):
        net, vat = found.get(one.vat_ppm, (0, 0))
        found[one.vat_ppm] = (net + one.net_micros, vat + one.incl_micros - one.net_micros)
    return found


def vat_of(net_minor: int, vat_ppm: Rate) -> int:
    """The VAT of a net amount, rounded half up, away from 0 below 0 (EN 16931, BR-CO-17)."""
    vat_minor = (2 * abs(net_minor) * (vat_ppm or 0) + MILLION) // (2 * MILLION)
    return vat_minor if net_minor >= 0 else -vat_minor


def with_rates(lines: Sequence[DocumentLine]) -> list[DocumentLine]:
    """The lines of a charge with every adjustment divided by rate, as `payable_amounts` does it, and the same sums: so
    that they can stand beside lines of other charges."""
    weights = _weights(lines)
    found: list[DocumentLine] = []
    for line in lines:
        if line.dimension not in BOUNDS or line.vat_ppm is not None:
            found.append(line)
            continue
        of = weights or {_implied_rate(line): 1}
        excl, incl = _shares(line.excl_micros, of), _shares(line.incl_micros, of)
        found += [
            msgspec.structs.replace(line, vat_ppm=rate, excl_micros=excl[rate], incl_micros=incl[rate])
            for rate in of
            if excl[rate] or incl[rate]
        ]
    return found


def _weights(lines: Sequence[DocumentLine]) -> dict[Rate, int]:
    """Amounts incl. VAT of what was used, by rate."""
    weights: dict[Rate, int] = {}
    for line in lines:
        if line.dimension not in _NOT_USED:
            weights[line.vat_ppm] = weights.get(line.vat_ppm, 0) + abs(line.incl_micros)
    return weights


def _taxed(lines: Sequence[DocumentLine]) -> list[_Taxed]:
    """Every line with a rate: an adjustment has those of what it adjusts, in proportion to their amounts incl. VAT."""
    weights = _weights(lines)
    taxed: list[_Taxed] = []
    for place, line in enumerate(lines):
        if line.dimension == CORRECTION:
            continue
        if line.dimension == CREDIT:
            taxed.append(_from_price(place, line, line.vat_ppm, line.incl_micros))
        elif line.dimension not in BOUNDS:
            taxed.append(_Taxed(place, line, line.vat_ppm, line.excl_micros, line.incl_micros))
        elif line.vat_ppm is not None:
            taxed.append(_from_price(place, line, line.vat_ppm, line.incl_micros))
        else:
            parts = _shares(line.incl_micros, weights or {_implied_rate(line): 1})
            taxed += [_from_price(place, line, rate, part) for rate, part in parts.items() if part or len(parts) == 1]
    return taxed


def _from_price(place: int, line: DocumentLine, rate: Rate, incl_micros: int) -> _Taxed:
    """A bound, and a part that is credited, is a price to be paid, VAT included: its net amount follows from it."""
    denominator = MILLION + (rate or 0)
    net_micros = (2 * abs(incl_micros) * MILLION + denominator) // (2 * denominator)
    return _Taxed(place, line, rate, net_micros if incl_micros >= 0 else -net_micros, incl_micros)


def _implied_rate(line: DocumentLine) -> Rate:
    """Of an adjustment to nothing used, whose tariff says excl. and incl. VAT; None where they are the same."""
    if line.excl_micros == 0 or line.incl_micros == line.excl_micros:
        return None
    return round_div((line.incl_micros - line.excl_micros) * MILLION, line.excl_micros * _RATE_STEP) * _RATE_STEP


def round_div(numerator: int, denominator: int) -> int:
    """The nearest whole number, half up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _shares(total: int, weights: Mapping[Rate, int]) -> dict[Rate, int]:
    """The total by weight, by largest remainder; all of it to the first where nothing has weight."""
    names, whole = list(weights), sum(weights.values())
    if whole == 0:
        return {name: total if place == 0 else 0 for place, name in enumerate(names)}
    parts = [divmod(total * weights[name], whole) for name in names]
    left = total - sum(part for part, _ in parts)
    larger = set(sorted(range(len(names)), key=lambda place: -parts[place][1])[:left])
    return {name: parts[place][0] + (place in larger) for place, name in enumerate(names)}


def _rounded_nets(
    exact: Sequence[tuple[Rate, int]], payable_minor: int, unit_micros: int, net_minor: int | None
) -> dict[Rate, int]:
    """The net amount of each rate: of all ways to round each down or up the best. What they lack to `net_minor` then,
    which is coins of roundings, the largest has."""

    def ways(micros: int) -> Iterable[int]:
        low, rest = divmod(micros, unit_micros)
        if rest == 0:
            return (low,)
        return (low, low + 1) if len(exact) <= RATES_TRIED_MAX else (low + (2 * rest >= unit_micros),)

    def badness(nets: tuple[int, ...]) -> tuple[int, int, int]:
        with_vat = sum(net + vat_of(net, rate) for net, (rate, _) in zip(nets, exact, strict=True))
        moved = sum(abs(net * unit_micros - micros) for net, (_, micros) in zip(nets, exact, strict=True))
        return 0 if net_minor is None else abs(net_minor - sum(nets)), abs(payable_minor - with_vat), moved

    best = min(product(*(ways(micros) for _, micros in exact)), key=badness)
    nets = {rate: net for (rate, _), net in zip(exact, best, strict=True)}
    if net_minor is not None and nets:
        nets[max(nets, key=lambda rate: abs(nets[rate]))] += net_minor - sum(best)
    return nets


def _divided(taxed: Sequence[_Taxed], nets: Mapping[Rate, int], unit_micros: int) -> tuple[PayableLine, ...]:
    """Each rate's net amount over its lines, by largest remainder."""
    parts = [divmod(one.net_micros, unit_micros) for one in taxed]
    more = [0] * len(taxed)
    for rate, net_minor in nets.items():
        places = [place for place, one in enumerate(taxed) if one.vat_ppm == rate]
        each, left = divmod(net_minor - sum(parts[place][0] for place in places), len(places))
        for order, place in enumerate(sorted(places, key=lambda place: -parts[place][1])):
            more[place] = each + (order < left)
    return tuple(
        PayableLine(one.place, one.line, one.vat_ppm, parts[place][0] + more[place]) for place, one in enumerate(taxed)
    )
