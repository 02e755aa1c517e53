"""Notifications and their deliveries: the ledger, and the sending of what is due."""
