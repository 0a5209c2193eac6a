"""Parameters of publish."""

from pydantic import Field

from pipeline.core.config import Settings


class PublishParams(Settings):
    description: str = Field(min_length=1)
    """Purpose of the model: the first line of its card."""
