"""The channels by which notifications are sent, behind one interface."""
