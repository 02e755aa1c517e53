"""Authentication: stored tokens, signed tokens, and their verification on every request."""
