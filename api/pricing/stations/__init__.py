"""The stations that tariffs are for, as the events of the stations service have them."""
