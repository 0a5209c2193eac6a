"""Publication of a run and a registered version in MLflow, from the stages' records."""
