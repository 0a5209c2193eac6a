"""What every room stands on: the recipe's parser, records, errors, files, log and paths."""
