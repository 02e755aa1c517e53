"""Analytics: metrics over HTTP, from the roll-ups."""
