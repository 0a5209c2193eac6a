"""Work on files of rows, chunk by chunk."""
