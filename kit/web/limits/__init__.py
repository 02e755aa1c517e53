"""What one token, and one address without a token, may ask for: counted in memory, refused with 429."""
