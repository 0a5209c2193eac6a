"""What a registered version runs when MLflow loads it.

MLflow copies this file, and beside it as artifacts the ONNX model, tokenizer.json, serving.json
and the runtime code (onnx_runtime.py). It imports nothing of ours: an old version is answered for
by its own code, whatever stands in the repository today.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedClassifier(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        files = {name: Path(path) for name, path in context.artifacts.items()}
        spec = spec_from_file_location("registered_runtime", files["runtime"])
        if spec is None or spec.loader is None:
            raise ImportError(f"{files['runtime']} cannot be loaded")
        runtime = module_from_spec(spec)
        spec.loader.exec_module(runtime)
        self.classifier = runtime.OnnxClassifier(
            files["model"], files["tokenizer"], files["settings"]
        )

    def predict(
        self, context: Any, model_input: list[str], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row a text: `label`, `score`, and each class's score as `score_<class>`."""
        scores = self.classifier.probabilities(model_input)
        labels = self.classifier.labels
        table = {"label": [labels[i] for i in scores.argmax(1)], "score": scores.max(1)}
        return pd.DataFrame(
            table | {f"score_{label}": scores[:, i] for i, label in enumerate(labels)}
        )


set_model(ServedClassifier())
