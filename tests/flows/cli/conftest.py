"""The line's stages on toy rows, and an empty MLflow."""

from tests.pipeline.conftest import empty_mlflow, line, tokens, tracking

__all__ = ["empty_mlflow", "line", "tokens", "tracking"]
