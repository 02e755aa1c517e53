"""Roll-ups: which hours have changed, and recomputing them whole."""
