"""Conversion of sources to Parquet, with a stable id, the origin and the split of each row."""
