"""The operators' queries of charging sessions."""
