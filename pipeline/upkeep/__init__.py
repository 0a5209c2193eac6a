"""Looking after what the line leaves behind: checking it, tidying it, taking rows out of it."""
