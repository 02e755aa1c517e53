"""Lists the charges that are held: not invoiced until a person has reviewed them."""
