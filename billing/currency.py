"""Currencies' minor units, and the one rounding of an amount to be paid.

ISO 4217 says how many digits a currency has after the point. What is not in its list is not money that can be asked for
(of metals and codes for tests it names no digits either): such a charge is not invoiced by itself. Coins that are worth
more than a minor unit (5 rappen, 5 öre) are a matter of cash, which nobody pays here.
"""

from typing import Final

from schemas.currency import MINOR_DIGITS

_MICRO_DIGITS: Final = 6


def can_be_paid(currency: str) -> bool:
    """Whether ISO 4217 has the currency, with its digits."""
    return currency in MINOR_DIGITS


def minor_digits(currency: str) -> int:
    """Digits after the point of what can be paid: 2 for EUR, 0 for JPY; 2 to show what cannot be paid."""
    return MINOR_DIGITS.get(currency, 2)


def to_minor(micros: int, currency: str) -> int:
    """An amount in minor units, rounded half up. Raises ValueError below 0: a credit is negated, not rounded."""
    if micros < 0:
        raise ValueError(f"{micros} micro-units of {currency} cannot be asked for")
    unit_micros: int = 10 ** (_MICRO_DIGITS - minor_digits(currency))
    return (2 * micros + unit_micros) // (2 * unit_micros)


def minor_of(amount: str, currency: str) -> int:
    """The minor units of a decimal text without a sign. Raises ValueError for more digits than the currency
    has."""
    digits = minor_digits(currency)
    whole, _, fraction = amount.partition(".")
    if len(fraction.rstrip("0")) > digits:
        raise ValueError(f"{amount}: {currency} has {digits} digits after the point")
    return int(whole + fraction[:digits].ljust(digits, "0"))


def rounding_rule(currency: str) -> str:
    """What `to_minor` does, for the document."""
    return f"payable: the total, once, half up to {format_minor(1, minor_digits(currency))} {currency}"


def format_minor(minor: int, digits: int) -> str:
    """`12.34` of 1234 with two digits; `-0.05` of -5; `7` of 7 with none."""
    whole, rest = divmod(abs(minor), 10**digits)
    sign = "-" if minor < 0 else ""
    return f"{sign}{whole}.{rest:0{digits}d}" if digits else f"{sign}{whole}"


def format_micros(micros: int) -> str:
    """`12.345678`: all six digits, always."""
    return format_minor(micros, _MICRO_DIGITS)
