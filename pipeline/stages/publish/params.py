"""Parameters of publish."""

from pydantic import Field

from pipeline.core.config import Settings


class PublishParams(Settings):
    description: str = Field(min_length=1)
    """What the model is for: the first line of its card."""
