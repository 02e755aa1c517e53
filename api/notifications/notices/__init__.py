"""What events say to whom, prepared as notifications."""
