"""Runtime candidates measured on this machine, and the one that will serve."""
