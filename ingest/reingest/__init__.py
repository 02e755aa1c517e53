"""Items of the quarantine become readings after all."""
