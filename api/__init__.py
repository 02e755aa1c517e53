"""The lighter services, one folder each, all of one shape: routes, service, store, models."""
