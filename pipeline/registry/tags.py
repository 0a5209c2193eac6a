"""Names of the tags of runs and versions in MLflow."""

KEY_TAG = "bertline.key"  # of runs, and of versions of earlier releases
VERSION_KEY_TAG = "version.key"  # sorts behind the tags that people compare versions by
LINEAGE_TAG = "bertline.lineage"
PUBLISHED_TAG = "bertline.published"
FILES_TAG = "bertline.files"  # versions of earlier releases: SHA-256 of each file, as JSON
RECORDS_TAG = "bertline.records"  # runs of earlier releases: SHA-256 of each artifact, as JSON
DIGESTS_TAG = "bertline.digests"  # SHA-256 of the artifact with the digests of all files
MODEL_TAG = "bertline.model_sha256"
WEIGHTS_TAG = "bertline.weights_sha256"
TOKENIZER_TAG = "bertline.tokenizer_sha256"
RUNTIME_TAG = "bertline.runtime"
VERDICT_TAG = "verdict"  # the gate's last decision
FIT_TAG = "bertline.fit"  # key of a training
ENTRY_TAG = "bertline.entry"
STATE_TAG = "bertline.state"
EPOCH_TAG = "bertline.epoch"
NOTE_TAG = "mlflow.note.content"
COLLECTED_TAG = "bertline.collected"  # on runs whose version and files were deleted by gc
