"""Files of readings, sent as if their devices did."""
