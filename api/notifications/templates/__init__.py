"""What notifications say, as operators edit it."""
