"""The waiting lists of sites."""
