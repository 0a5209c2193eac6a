"""Import of a model that was trained elsewhere, in place of a training.

Import it inside a function: it loads PyTorch.
"""

from pathlib import Path

from pipeline.core.log import Log
from pipeline.models import encoders
from pipeline.models.heads import head_of
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.finetune.trainer import Job, Result, start_of
from pipeline.tasks.base import Logits


def adopted(job: Job, validate: Path, log: Log) -> Result:
    """Return the base with its own head, scored on validation rows.

    Raises UserError for a model without that head, and for one whose classes are not the rows'.
    """
    params, task, validator = job.params, job.task, job.validator
    head, folder = head_of(task), job.state / "adopted"
    model = head.adopt(start_of(job)).eval()
    model.save_pretrained(folder)
    validator.prepared, _, _ = task.folded(validator.prepared)  # its outputs are labels
    pieces = list(validator.pieces)
    if task.remembers:
        pieces += validator.encoder.pieces(
            artifacts.texts_of(artifacts.kept_rows(validate, "train"))
        )
    logits: list[Logits] = TorchModel(folder, task).logits(pieces, 4 * params.batch_size)
    value = validator.metrics(logits)[params.metric]
    log.info(f"{job.name}: is imported as it is, validation {params.metric} {value:.4f}")
    return Result(
        model=model,
        predict=lambda: logits,
        history=[],
        parameters=sum(each.numel() for each in model.parameters()),
        trained=0,
        pooling=encoders.pooling(model),
        steps=0,
        epochs=0.0,
        best_step=0,
        best_value=value,
        stopped_early=False,
        adapter=None,
    )
