"""How fast a model runs here, how much memory it takes, and how far both are from the limit."""
