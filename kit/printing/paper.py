"""A4 pages of PDF/A-3: fonts that are embedded, text that wraps, tables that go on, a footer that counts. Pure."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from fpdf import FPDF
from fpdf.enums import AssociatedFileRelationship, DocumentCompliance, MethodReturnValue, XPos, YPos
from fpdf.fonts import TTFFont

MARGIN_MM: Final = 18
WIDTH_MM: Final = 174  # between the margins
_FOOT_MM: Final = 12
_LABEL_MM: Final = 34  # of a label before its value
_ROW_MM: Final = 5.2
_GREY: Final = (95, 95, 95)
_RULE: Final = (190, 190, 190)
_BLACK: Final = (0, 0, 0)
_FAMILY: Final = "DejaVu"
FONTS: Final = Path(__file__).parent / "fonts"
_MISSING: Final = "?"


class Attachment(NamedTuple):
    """A file inside the PDF: the machine-readable form of what it says."""

    name: str
    content: bytes
    mime_type: str
    description: str


class _Pages(FPDF):
    """Pages with a footer."""

    footer_text = ""

    def footer(self) -> None:
        """The document and the page's number, on every page."""
        self.set_y(-_FOOT_MM)
        self.set_font(_FAMILY, "", 8)
        self.set_text_color(*_GREY)
        self.cell(WIDTH_MM // 2, 4, self.footer_text)
        self.cell(WIDTH_MM // 2, 4, f"Page {self.page_no()} of {{nb}}", align="R")


class Paper:
    """The pages of a document, written from top to bottom."""

    def __init__(self, title: str, issued_at: datetime) -> None:
        self._pdf = _Pages(format="A4", enforce_compliance=DocumentCompliance.PDFA_3B)
        self._pdf.add_font(_FAMILY, "", FONTS.joinpath("DejaVuSans.ttf"))
        self._pdf.add_font(_FAMILY, "B", FONTS.joinpath("DejaVuSans-Bold.ttf"))
        regular = self._pdf.fonts[_FAMILY.lower()]
        self._characters = frozenset(regular.cmap) if isinstance(regular, TTFFont) else frozenset()
        self._pdf.footer_text = title
        self._pdf.set_creation_date(issued_at)  # and no other moment: the same bytes tomorrow
        self._pdf.set_title(title)
        self._pdf.set_creator("voltstream")
        self._pdf.set_lang("en")
        self._pdf.set_margin(MARGIN_MM)
        self._pdf.set_auto_page_break(True, MARGIN_MM)
        self._pdf.add_page()

    def text(self, text: str, size: float, *, bold: bool = False, grey: bool = False, width: float = WIDTH_MM) -> None:
        """A paragraph."""
        self._font(size, bold=bold, grey=grey)
        self._pdf.multi_cell(width, size * 0.48, self._printable(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def heading(self, text: str, size: float) -> None:
        """A heading, on the page of what follows it."""
        self._room_for(size * 0.48 + 6 * _ROW_MM)
        self.text(text, size, bold=True)

    def block(self, lines: Sequence[str], width: float) -> None:
        """An address: its first line in bold."""
        for number, line in enumerate(lines):
            self._font(9.5, bold=number == 0)
            self._pdf.multi_cell(width, 4.8, self._printable(line), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def space(self, height: float) -> None:
        """Empty space."""
        self._pdf.ln(height)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """A label and its value a row."""
        for label, value in facts:
            self._font(9, grey=True)
            self._room_for(_ROW_MM)
            self._pdf.cell(_LABEL_MM, _ROW_MM, label)
            self._font(9)
            self._pdf.multi_cell(0, _ROW_MM, self._printable(value), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], alignments: Sequence[str], widths: Sequence[float]
    ) -> None:
        """Ruled above and below; a row stays on one page, and a page that goes on repeats the headings. A row of one
        cell is a heading of its own."""
        self._headings(headings, alignments, widths)
        for row in rows:
            whole = len(row) == 1
            self._font(8.5 if whole else 9, bold=whole)
            cells, spans = (row, (WIDTH_MM,)) if whole else (row, widths)
            if (
                self._pdf.get_y() + self._height(cells, spans) + (_ROW_MM if whole else 0)
                > self._pdf.page_break_trigger
            ):
                self._pdf.add_page()
                self._headings(headings, alignments, widths)
                self._font(8.5 if whole else 9, bold=whole)
            self._row(cells, alignments if not whole else ("L",), spans)
        self._rule()
        self._pdf.ln(4)

    def totals(self, totals: Sequence[tuple[str, str]]) -> None:
        """Right, the last one large, all on one page."""
        self._room_for(_ROW_MM * len(totals) + 6)
        for place, (label, value) in enumerate(totals):
            last = place == len(totals) - 1
            if last:
                self._pdf.ln(1)
            self._font(12.5 if last else 9, bold=last)
            height = 8 if last else _ROW_MM
            self._pdf.cell(WIDTH_MM - 45, height, label, align="R")
            self._pdf.cell(45, height, value, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._pdf.ln(5)

    def finish(self, attachment: Attachment | None, metadata: str) -> bytes:
        """The file. `metadata`: XMP, from x:xmpmeta on."""
        if attachment is not None:
            self._pdf.embed_file(
                bytes=attachment.content,
                basename=attachment.name,
                desc=attachment.description,
                mime_type=attachment.mime_type,
                modification_date=self._pdf.creation_date,
                creation_date=self._pdf.creation_date,
                associated_file_relationship=AssociatedFileRelationship.ALTERNATIVE.value,
            )
        self._pdf.set_xmp_metadata(metadata)
        return bytes(self._pdf.output())

    def _headings(self, headings: Sequence[str], alignments: Sequence[str], widths: Sequence[float]) -> None:
        self._room_for(3 * _ROW_MM)
        self._font(8, grey=True)
        self._row(headings, alignments, widths)
        self._rule()

    def _row(self, cells: Sequence[str], alignments: Sequence[str], widths: Sequence[float]) -> None:
        top, bottom, left = self._pdf.get_y(), self._pdf.get_y(), MARGIN_MM + 0.0
        for text, align, width in zip(cells, alignments, widths, strict=True):
            self._pdf.set_xy(left, top)
            self._pdf.multi_cell(
                width, _ROW_MM, self._printable(text), align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT
            )
            bottom, left = max(bottom, self._pdf.get_y()), left + width
        self._pdf.set_xy(MARGIN_MM, bottom)

    def _height(self, cells: Sequence[str], widths: Sequence[float]) -> float:
        def lines(text: str, width: float) -> int:
            found = self._pdf.multi_cell(
                width, _ROW_MM, self._printable(text), dry_run=True, output=MethodReturnValue.LINES
            )
            return max(len(found) if isinstance(found, list) else 1, 1)

        return _ROW_MM * max(lines(text, width) for text, width in zip(cells, widths, strict=True))

    def _room_for(self, height: float) -> None:
        if self._pdf.get_y() + height > self._pdf.page_break_trigger:
            self._pdf.add_page()

    def _rule(self) -> None:
        y = self._pdf.get_y() + 0.5
        self._pdf.set_draw_color(*_RULE)
        self._pdf.line(MARGIN_MM, y, MARGIN_MM + WIDTH_MM, y)
        self._pdf.ln(1.5)

    def _font(self, size: float, *, bold: bool = False, grey: bool = False) -> None:
        self._pdf.set_font(_FAMILY, "B" if bold else "", size)
        self._pdf.set_text_color(*(_GREY if grey else _BLACK))

    def _printable(self, text: str) -> str:
        """With question marks for characters that the fonts do not have. `{nb}` would be the number of pages."""
        return "".join(one if ord(one) in self._characters else _MISSING for one in text).replace("{nb}", "{nb\u200b}")


def document_metadata(title: str, creator: str, moment: datetime, described: str = "") -> str:
    """XMP as PDF/A-3 wants it, from x:xmpmeta on. `described`: further rdf:Description elements."""
    written = moment.isoformat(timespec="seconds")
    return _METADATA.format(title=escape(title), creator=escape(creator), moment=written, described=described)


_METADATA: Final = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance></rdf:Description>
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>{creator}</rdf:li></rdf:Seq></dc:creator></rdf:Description>
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<xmp:CreatorTool>voltstream</xmp:CreatorTool><xmp:CreateDate>{moment}</xmp:CreateDate>
<xmp:ModifyDate>{moment}</xmp:ModifyDate></rdf:Description>{described}
</rdf:RDF>
</x:xmpmeta>"""
