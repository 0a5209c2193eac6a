"""Tags that runs and versions carry in MLflow."""

KEY_TAG = "bertline.key"
LINEAGE_TAG = "bertline.lineage"
PUBLISHED_TAG = "bertline.published"
FILES_TAG = "bertline.files"  # SHA-256 of each file of a version, as JSON
RECORDS_TAG = "bertline.records"  # SHA-256 of each artifact of a published run, as JSON
FIT_TAG = "bertline.fit"  # the key of a training
ENTRY_TAG = "bertline.entry"
STATE_TAG = "bertline.state"
EPOCH_TAG = "bertline.epoch"
NOTE_TAG = "mlflow.note.content"
COLLECTED_TAG = "bertline.collected"  # on a run whose version and files are gone
