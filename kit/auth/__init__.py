"""Who may: stored tokens, signed tokens, and the check of every request."""
