"""Load mode: as many readings as one core can write."""
