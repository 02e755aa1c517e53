"""Collective invoices: one a month for a customer who wants that, of all charges collected meanwhile."""
