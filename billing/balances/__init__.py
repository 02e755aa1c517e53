"""What a driver owes, or is owed, over all documents and payments."""
