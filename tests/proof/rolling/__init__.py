"""Services that are restarted one after the other behind a proxy, under load."""
