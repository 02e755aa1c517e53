"""The command `voltstream`."""
