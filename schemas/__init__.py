"""The language of voltstream: readings, frames, events and the names of topics. Imports nothing in-house."""
