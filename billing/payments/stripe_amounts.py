"""Amounts as Stripe counts them: in minor units, except for currencies that it counts otherwise than ISO 4217.

Source: https://docs.stripe.com/currencies (zero-decimal, three-decimal and special cases).
"""

from typing import Final

from billing.currency import minor_digits
from billing.errors import ProviderFailed

_DIGITS: Final = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("ISK", "UGX"), 2),  # without decimals since long, and still counted in hundredths
    **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 3),
}
_TENS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})  # cards settle them to two digits: the last must be 0


def to_stripe(amount_minor: int, currency: str) -> int:
    """An amount for Stripe. Raises ProviderFailed where Stripe cannot take it to the last unit."""
    theirs, ours = _units(currency)
    amount, rest = divmod(amount_minor * theirs, ours)
    if rest or (currency in _TENS and amount % 10):
        raise ProviderFailed(f"stripe cannot charge {amount_minor} minor units of {currency} exactly; use another way")
    return amount


def from_stripe(amount: int, currency: str) -> int:
    """An amount of Stripe in our minor units, rounded down: too small an amount never passes for the one asked."""
    theirs, ours = _units(currency)
    return amount * ours // theirs


def _units(currency: str) -> tuple[int, int]:
    """How many of Stripe's units, and of ours, are one of the currency."""
    return 10 ** _DIGITS.get(currency, 2), 10 ** minor_digits(currency)
