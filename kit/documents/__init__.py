"""Documents by key: in PostgreSQL, or in MongoDB where its URL is set."""
