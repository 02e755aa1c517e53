"""Invoices and credit notes: found, read, explained, cancelled."""
