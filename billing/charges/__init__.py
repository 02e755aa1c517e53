"""Lists the charges that are not invoiced, and records what people decide about those that wait for them."""
