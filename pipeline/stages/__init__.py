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
