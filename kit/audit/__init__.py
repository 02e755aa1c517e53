"""Who did what: one entry for each change and each refusal, in a chain that shows every later change of it."""
