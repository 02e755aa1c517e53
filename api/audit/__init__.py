"""Who did what: the trail, its chain and its retention."""
