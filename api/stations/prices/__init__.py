"""What 10 kWh cost at a station, now and for the next two days, as tariffs are published."""
