"""What a credit note credits of an invoice: all that is left of it, or a part, in exact sums. Pure.

- A part is a whole number of minor units incl. VAT, less than what is left to credit: the total of its lines is exactly
  that, so that what is left in micro-units always rounds to what is left in minor units.
- It is spread over net and VAT of every rate in proportion to what is left of them, or to the lines that were chosen,
  by the largest remainder, to the micro-unit: its lines, one a rate, have amounts only (dimension CREDIT).
- What credits the rest has the lines of the invoice, negated, with all quantities, and gives back the parts that were
  credited before. So the documents of an invoice that is credited whole sum to nothing, however it was done.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from billing.currency import format_minor, to_minor
from billing.documents import CREDIT, Document, DocumentAmounts, DocumentLine
from billing.rating.json_io import format_plain
from billing.rating.price import MAX_PRICE, MIN_PRICE, VAT_DIGITS
from billing.setoffs.allocation import refundable_minor
from billing.vat import amounts_by_rate
from kit.web.errors import BadQuery, Conflict

_MICRO_DIGITS: Final = 6
ADJUSTMENTS: Final = (MIN_PRICE, MAX_PRICE)
"""Dimensions of lines that have no rate of their own."""
Rate = int | None
"""Of VAT, in millionths; None: no VAT applies."""
Shares = dict[Rate, tuple[int, int]]
"""Net and VAT by rate, in micro-units."""
Part = tuple[DocumentAmounts, list[DocumentLine]]


@dataclass(frozen=True, slots=True)
class CreditedInvoice:
    """An invoice with its lines, and the credit notes of parts of it with theirs."""

    invoice: Document
    lines: Sequence[DocumentLine]
    notes: Sequence[Document] = ()
    note_lines: Sequence[DocumentLine] = ()
    paid_minor: int = 0  # payments of the invoice that have succeeded

    @property
    def covered_minor(self) -> int:
        """What was paid of the invoice, by payments and by credit notes."""
        return self.paid_minor + self.invoice.set_off_minor

    def refundable_minor(self, amount_minor: int) -> int:
        """What of another credit note of that amount is to be given back."""
        credited = [*(-note.payable_minor for note in self.notes), amount_minor]
        return refundable_minor(self.invoice.payable_minor, self.covered_minor, credited)[-1]

    @property
    def left(self) -> DocumentAmounts:
        """What is not credited yet."""
        parts = zip(self.invoice.amounts, *(note.amounts for note in self.notes), strict=True)
        return DocumentAmounts(*(sum(part) for part in parts))  # of credit notes below 0

    def rest(self) -> Part:
        """Amounts and lines of the note that credits all that is left."""
        return self.left, [line.negated() for line in (*self.lines, *self.note_lines)]

    def part(self, amount_minor: int, shares: Shares) -> Part:
        """Amounts and lines of the note that credits so much incl. VAT. `shares`: net and VAT by rate, to which the
        amount is proportional. Raises BadQuery, Conflict."""
        left = self.left
        if amount_minor <= 0:
            raise BadQuery("the credit comes to nothing: give an amount above 0")
        if amount_minor > left.payable_minor:
            digits, currency = self.invoice.minor_digits, self.invoice.currency
            raise Conflict(
                f"of {self.invoice.number} {format_minor(left.payable_minor, digits)} {currency} is left to credit, "
                f"not {format_minor(amount_minor, digits)}"
            )
        if amount_minor == left.payable_minor:
            return self.rest()
        incl_micros = amount_minor * self.unit_micros
        weights = [weight for share in shares.values() for weight in share]
        split = split_in_proportion(incl_micros, weights)
        nets, vats = split[::2], split[1::2]
        self._check_rates(shares, nets, vats)
        lines = [
            DocumentLine(CREDIT, None, 0, 0, None, rate, -net, -net - vat)
            for rate, net, vat in zip(shares, nets, vats, strict=True)
            if net or vat
        ]
        excl_minor = self._payable_excl(lines, amount_minor)
        return DocumentAmounts(sum(nets), incl_micros, excl_minor, amount_minor), lines

    def _payable_excl(self, lines: Sequence[DocumentLine], amount_minor: int) -> int:
        """What a part has excl. VAT on paper. What is left excl. VAT stays the rounded rest as well: many small parts
        would add up their roundings."""
        left_minor = self.left.payable_excl_minor
        rest_micros = _net_on_paper([*self.lines, *self.note_lines]) + _net_on_paper(lines)  # of a part below 0
        rest_minor = to_minor(max(rest_micros, 0), self.invoice.currency)
        return min(max(left_minor - rest_minor, 0), amount_minor, left_minor)

    @property
    def unit_micros(self) -> int:
        """Micro-units in a minor unit."""
        unit: int = 10 ** (_MICRO_DIGITS - self.invoice.minor_digits)
        return unit

    def demand_margin_of(self, amounts: DocumentAmounts) -> int | None:
        """What a credit note of these amounts gives back of the margin of demand pricing: with the rest all that is
        left of it, with a part its share, in proportion to what is left excl. VAT. None: it is not known."""
        margin, left = 0, self.left
        for document in (self.invoice, *self.notes):
            if document.demand_margin_micros is None:
                return None
            margin += document.demand_margin_micros
        if amounts == left:
            return margin
        if left.excl_micros <= 0:
            return 0
        return split_in_proportion(margin, (amounts.excl_micros, left.excl_micros - amounts.excl_micros))[0]

    def left_by_rate(self) -> Shares:
        """Net and VAT that are not credited yet, by rate; an adjustment to a minimum or maximum price counts to
        every rate, in proportion."""
        requested = self._requested_by_rate()
        credited = by_rate(self.note_lines)
        rates = list(dict.fromkeys((*requested, *credited)))
        pairs = {rate: (requested.get(rate, (0, 0)), credited.get(rate, (0, 0))) for rate in rates}
        return {rate: (net + net_less, vat + vat_less) for rate, ((net, vat), (net_less, vat_less)) in pairs.items()}

    def _requested_by_rate(self) -> Shares:
        if not any(line.dimension in ADJUSTMENTS for line in self.lines):
            return by_rate(self.lines)
        shares = {rate: share for rate, share in amounts_by_rate(self.lines).items() if share != (0, 0)}
        nets, vats = ([share[place] for share in shares.values()] for place in (0, 1))
        if sum(nets) <= 0:
            return shares
        net, vat = self.invoice.total_excl_micros, self.invoice.total_incl_micros - self.invoice.total_excl_micros
        return dict(
            zip(
                shares,
                zip(
                    split_in_proportion(net, nets),
                    split_in_proportion(vat, vats if sum(vats) > 0 else nets),
                    strict=True,
                ),
                strict=True,
            )
        )

    def of_lines(self, chosen: Mapping[int, int | None]) -> tuple[int, Shares]:
        """The amount in minor units of these lines, by their number from 1, and their net and VAT by rate. Of a line
        so many minor units incl. VAT, or all of it. Raises BadQuery, Conflict."""
        parts = []
        for number, amount_minor in chosen.items():
            if not 1 <= number <= len(self.lines):
                raise BadQuery(f"{self.invoice.number} has lines 1 to {len(self.lines)}, and no line {number}")
            parts.append(self._part_of_line(number, amount_minor))
        incl_micros = sum(line.incl_micros for line in parts)
        if incl_micros == self.left.incl_micros:
            return self.left.payable_minor, by_rate(parts)
        return incl_micros // self.unit_micros, by_rate(parts)

    def _part_of_line(self, number: int, amount_minor: int | None) -> DocumentLine:
        line = self.lines[number - 1]
        if line.dimension in ADJUSTMENTS:
            raise BadQuery(f"line {number} of {self.invoice.number} adjusts the others: credit an amount")
        if line.incl_micros <= 0:
            raise BadQuery(f"line {number} of {self.invoice.number} requests nothing that could be credited")
        if amount_minor is None:
            return line
        incl_micros = amount_minor * self.unit_micros
        if incl_micros > line.incl_micros:
            raise Conflict(f"line {number} of {self.invoice.number} requests less than that")
        net, vat = split_in_proportion(incl_micros, (line.excl_micros, line.incl_micros - line.excl_micros))
        return DocumentLine(line.dimension, line.element, 0, 0, None, line.vat_ppm, net, net + vat)

    def _check_rates(self, shares: Iterable[Rate], nets: Sequence[int], vats: Sequence[int]) -> None:
        left = self.left_by_rate()
        for rate, net, vat in zip(shares, nets, vats, strict=True):
            net_left, vat_left = left.get(rate, (0, 0))
            if net > max(net_left, 0) or vat > max(vat_left, 0):
                of = "without VAT" if rate is None else f"with {format_plain(rate, VAT_DIGITS)} % VAT"
                raise Conflict(
                    f"of {self.invoice.number} less is left to credit {of}: choose other lines, or an amount"
                )


def _net_on_paper(lines: Sequence[DocumentLine]) -> int:
    return sum(net for net, _ in amounts_by_rate(lines).values())


def by_rate(lines: Iterable[DocumentLine]) -> Shares:
    """Net and VAT of lines by rate, in micro-units, without rates of which nothing is left."""
    found: Shares = {}
    for line in lines:
        net, vat = found.get(line.vat_ppm, (0, 0))
        found[line.vat_ppm] = (net + line.excl_micros, vat + line.incl_micros - line.excl_micros)
    return {rate: share for rate, share in found.items() if share != (0, 0)}


def split_in_proportion(amount: int, weights: Sequence[int]) -> list[int]:
    """An amount in parts proportional to weights, whose sum is above 0: exact to the unit, by the largest remainder, of
    equal ones the first. Raises ValueError."""
    total = sum(weights)
    if total <= 0:
        raise ValueError(f"weights sum to {total}")
    parts, remainders = zip(*(divmod(amount * weight, total) for weight in weights), strict=True)
    split = list(parts)
    missing = amount - sum(parts)
    for place in sorted(range(len(split)), key=lambda one: -remainders[one])[:missing]:
        split[place] += 1
    return split
