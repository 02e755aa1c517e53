"""The life of a reservation: its states, and how each change is stored, published and charged."""
