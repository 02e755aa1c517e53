"""Turns session and reservation events into CDRs, invoices and credit notes."""
