"""Tags that runs and versions carry in MLflow."""

KEY_TAG = "bertline.key"
LINEAGE_TAG = "bertline.lineage"
PUBLISHED_TAG = "bertline.published"
FILES_TAG = "bertline.files"  # of earlier versions: SHA-256 of each file, as JSON
RECORDS_TAG = "bertline.records"  # of earlier runs: SHA-256 of each artifact, as JSON
DIGESTS_TAG = "bertline.digests"  # SHA-256 of the artifact that lists those of all files
MODEL_TAG = "bertline.model_sha256"
WEIGHTS_TAG = "bertline.weights_sha256"
TOKENIZER_TAG = "bertline.tokenizer_sha256"
RUNTIME_TAG = "bertline.runtime"
VERDICT_TAG = "verdict"  # what the gate said last
FIT_TAG = "bertline.fit"  # the key of a training
ENTRY_TAG = "bertline.entry"
STATE_TAG = "bertline.state"
EPOCH_TAG = "bertline.epoch"
NOTE_TAG = "mlflow.note.content"
COLLECTED_TAG = "bertline.collected"  # on a run whose version and files are gone
