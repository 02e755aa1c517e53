"""PostgreSQL: by URL or embedded, its roles and its migrations."""
