"""Parameters of export."""

from pydantic import Field

from pipeline.core.config import Settings


class ExportParams(Settings):
    texts: int = Field(ge=1)
    """Validation texts on which each file is compared with PyTorch."""
    max_difference: float = Field(gt=0)
    """Largest difference of fp32 logits from PyTorch's: more than this stops the pipeline."""
    per_channel: bool
    """True if int8 weights are scaled by output channel instead of by matrix."""
    reduce_range: bool
    """True if int8 weights use 7 bits: processors without VNNI overflow on 8."""
