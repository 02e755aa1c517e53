"""The stages of `make bench`, one module each."""
