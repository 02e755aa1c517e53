"""Parts that were credited of a collective invoice, once little of it stands any more. Pure.

A person credits a part of an invoice, not of a charge on it. While its charges stand, that part is theirs; a later
collective invoice that takes charges back would repay the part a second time where more of it was credited than stands.
That much it gives back, so that all documents of charges that owe nothing sum to nothing.
"""

from collections.abc import Sequence

from billing.documents import CREDIT, DocumentLine
from billing.invoicing.credit import by_rate, split_in_proportion


def given_back(parts: Sequence[DocumentLine], standing_micros: int, taken_back_micros: int) -> list[DocumentLine]:
    """A line for each rate of what is credited of one invoice and of none of its charges any more.

    `parts`: the lines of its credit notes, below 0; `standing_micros`: incl. VAT, its charges that no document before
    has taken back; `taken_back_micros`: those of them that are taken back now.
    """
    credited = {rate: (-net, -vat) for rate, (net, vat) in by_rate(parts).items()}
    credited_micros = sum(net + vat for net, vat in credited.values())
    without_charge = max(credited_micros - (standing_micros - taken_back_micros), 0)
    micros = without_charge - max(credited_micros - standing_micros, 0)
    if micros <= 0:
        return []
    split = split_in_proportion(micros, [weight for share in credited.values() for weight in share])
    return [
        DocumentLine(CREDIT, None, 0, 0, None, rate, net, net + vat)
        for rate, net, vat in zip(credited, split[::2], split[1::2], strict=True)
        if net or vat
    ]
