"""Customers: who pays for what drivers charge, and what documents say of them."""
