"""A simulated fleet of chargers, and replay of recorded readings. Both use only voltstream's public interfaces."""
