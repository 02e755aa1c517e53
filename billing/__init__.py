"""Money: rating, CDRs, invoices, payments, exports."""
