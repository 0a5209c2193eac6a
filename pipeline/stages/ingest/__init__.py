"""Source to Parquet: every row with a stable name, its place in the source and its split."""
