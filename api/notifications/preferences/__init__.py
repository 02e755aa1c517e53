"""How each recipient is notified: addresses, modes, quiet hours, digests."""
