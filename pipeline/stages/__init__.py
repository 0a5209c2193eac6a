"""The steps of the line, one file and one public function each. They meet through files only."""

ORDER = (
    "ingest",
    "validate",
    "tokenize",
    "finetune",
    "evaluate",
    "export",
    "benchmark",
    "publish",
)

CHARACTERS_PER_TOKEN = 32
"""A tokenizer reads a whole text before it truncates it: texts are cut to this many characters a
token first, in the line and where they are served."""
