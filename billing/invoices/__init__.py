"""Lists, reads, explains and cancels invoices."""
