"""Credits a part of an invoice, and refunds a part of a payment."""
