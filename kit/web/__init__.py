"""HTTP: the app every process serves, problem documents, readiness, paging, idempotent requests."""
