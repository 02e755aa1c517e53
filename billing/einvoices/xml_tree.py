"""XML elements by prefixed names. Pure."""

import re
from typing import Final
from xml.etree import ElementTree as ET

NAMESPACES: Final = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
    "qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "inv": "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2",
    "cn": "urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2",
}
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
for _prefix, _uri in NAMESPACES.items():
    ET.register_namespace(_prefix, _uri)

Content = ET.Element | str | None


def node(name: str, *content: Content, **attributes: str) -> ET.Element:
    """An element, `cbc:ID`, of its children or its text; what is None or empty text is left out."""
    prefix, _, local = name.partition(":")
    element = ET.Element(f"{{{NAMESPACES[prefix]}}}{local}", attributes)
    for one in content:
        if isinstance(one, str):
            element.text = _FORBIDDEN.sub("?", one)
        elif one is not None:
            element.append(one)
    return element


def optional(name: str, text: str | None, **attributes: str) -> ET.Element | None:
    """An element of that text, if there is any."""
    return node(name, text, **attributes) if text else None


def parent(name: str, *content: ET.Element | None) -> ET.Element | None:
    """An element of these children, if there are any."""
    return node(name, *content) if any(one is not None for one in content) else None


def to_bytes(root: ET.Element) -> bytes:
    """The document in UTF-8."""
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
