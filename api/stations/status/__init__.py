"""What connectors do now, from the events of streams and of reservations."""
