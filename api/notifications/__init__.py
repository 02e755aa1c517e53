"""The service `notifications`: messages to drivers and operators, and the ledger of their deliveries."""
