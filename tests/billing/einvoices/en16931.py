"""EN 16931's rules on amounts, read off a UBL document by a program of its own.

`broken` knows the rules that a wrong sum would break, and strictly: the published Schematron lets VAT differ by a unit.
"""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from xml.etree import ElementTree as ET

from billing.einvoices.xml_tree import NAMESPACES


def amount(element: ET.Element, path: str) -> Decimal:
    """The number there; 0 if there is none."""
    return Decimal(element.findtext(path, "0", NAMESPACES))


def broken(xml: bytes) -> list[str]:
    """The rules that a UBL document breaks."""
    return list(_broken(ET.fromstring(xml)))  # noqa: S314  # our own


def _broken(root: ET.Element) -> Iterator[str]:
    kind = root.tag.rpartition("}")[2]
    lines = root.findall(f"cac:{kind}Line", NAMESPACES)
    totals = root.find("cac:LegalMonetaryTotal", NAMESPACES)
    assert totals is not None
    adjustments: dict[str, list[ET.Element]] = {"true": [], "false": []}
    for one in root.findall("cac:AllowanceCharge", NAMESPACES):
        adjustments[one.findtext("cbc:ChargeIndicator", "", NAMESPACES)].append(one)
    charges, allowances = (
        sum((amount(one, "cbc:Amount") for one in adjustments[name]), Decimal(0)) for name in ("true", "false")
    )
    of_lines = sum((amount(line, "cbc:LineExtensionAmount") for line in lines), Decimal(0))
    if not lines:
        yield "BR-16"
    if of_lines != amount(totals, "cbc:LineExtensionAmount"):
        yield "BR-CO-10"
    if allowances != amount(totals, "cbc:AllowanceTotalAmount"):
        yield "BR-CO-11"
    if charges != amount(totals, "cbc:ChargeTotalAmount"):
        yield "BR-CO-12"
    net = amount(totals, "cbc:TaxExclusiveAmount")
    if net != of_lines - allowances + charges:
        yield "BR-CO-13"
    vat = amount(root, "cac:TaxTotal/cbc:TaxAmount")
    rows = root.findall("cac:TaxTotal/cac:TaxSubtotal", NAMESPACES)
    if vat != sum((amount(row, "cbc:TaxAmount") for row in rows), Decimal(0)):
        yield "BR-CO-14"
    gross = amount(totals, "cbc:TaxInclusiveAmount")
    if gross != net + vat:
        yield "BR-CO-15"
    payable = amount(totals, "cbc:PayableAmount")
    if payable != gross - amount(totals, "cbc:PrepaidAmount") + amount(totals, "cbc:PayableRoundingAmount"):
        yield "BR-CO-16"
    when = [root.find(path, NAMESPACES) for path in ("cbc:DueDate", "cac:PaymentTerms")]
    if payable > 0 and when == [None, None]:
        yield "BR-CO-25"
    if any(amount(line, "cac:Price/cbc:PriceAmount") < 0 for line in lines):
        yield "BR-27"
    yield from _of_rates(rows, lines, adjustments)
    for element in root.iter():
        if "currencyID" in element.attrib and not element.tag.endswith("PriceAmount"):
            digits = Decimal(element.text or "0").as_tuple().exponent
            if isinstance(digits, int) and digits < -2:
                yield "BR-DEC"


def _of_rates(
    rows: list[ET.Element], lines: list[ET.Element], adjustments: dict[str, list[ET.Element]]
) -> Iterator[str]:
    def tax(element: ET.Element, name: str) -> tuple[str, Decimal]:
        return element.findtext(f"cac:{name}/cbc:ID", "", NAMESPACES), amount(element, f"cac:{name}/cbc:Percent")

    nets: dict[tuple[str, Decimal], Decimal] = {}
    for line in lines:
        item = line.find("cac:Item", NAMESPACES)
        assert item is not None
        key = tax(item, "ClassifiedTaxCategory")
        nets[key] = nets.get(key, Decimal(0)) + amount(line, "cbc:LineExtensionAmount")
    for sign, name in ((1, "true"), (-1, "false")):
        for one in adjustments[name]:
            key = tax(one, "TaxCategory")
            nets[key] = nets.get(key, Decimal(0)) + sign * amount(one, "cbc:Amount")
    told = {tax(row, "TaxCategory"): row for row in rows}
    if len(told) != len(rows) or told.keys() != nets.keys():
        yield "BR-CO-18"
    for key, row in told.items():
        net = amount(row, "cbc:TaxableAmount")
        if net != nets.get(key):
            yield f"BR-{key[0]}-08"
        rounded = (net * key[1] / 100).quantize(Decimal(1).scaleb(_digits(net)), ROUND_HALF_UP)
        if amount(row, "cbc:TaxAmount") != rounded:
            yield "BR-CO-17"


def _digits(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
