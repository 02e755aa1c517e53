"""How chargers prove who they are."""
