"""E-invoices: a document as EN 16931 has it, in UBL 2.1 and in CII, which Factur-X embeds in the PDF."""
