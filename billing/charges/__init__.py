"""Lists the charges that are not invoiced until somebody has looked."""
