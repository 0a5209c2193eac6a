"""MLflow: runs, registered versions, their artifacts, the alias, the ledger and its lock."""
