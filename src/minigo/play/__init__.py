"""minigo at the board: the player behind GTP, and matches; imports the root, never the lab."""
