"""Real networks, real data, real training in a design point's own number formats."""
