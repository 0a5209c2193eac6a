"""Code that MLflow runs to load and serve a registered version.

MLflow copies this file into the version. The version's artifacts are the ONNX model,
tokenizer.json, serving.json, the runtime code (onnx_runtime.py), the folder of its task and the
code that tasks share. This file imports nothing of bertline, so an old version answers with its own
code, whatever the repository contains today.
"""

import hashlib
import json
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from mlflow.models import ModelConfig, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import BaseModel


class Pair(BaseModel):
    text: str
    second: str


class Served(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        files = {name: Path(path) for name, path in context.artifacts.items()}
        runtime, tasks = _loaded(files["runtime"]), _loaded(files["tasks"] / "__init__.py")
        answering = import_module(f"{tasks.__name__}.base.answering")
        serving = json.loads(files["settings"].read_text(encoding="utf-8"))
        task = tasks.get(serving["task"])
        encoder = task.encoder(
            files["tokenizer"],
            serving["max_length"],
            serving["long_text"],
            serving["overlap"],
            serving["masking"],
        )
        model = runtime.OnnxModel(files["model"], serving["padding"])
        self.answering = answering.Answering(
            task, encoder, model, serving["classes"], serving["decision"]
        )

    def answered(self, texts: list[tuple[str, str]]) -> pd.DataFrame:
        """Return one row per text: `label`, `score`, the task's details, and `score_<class>` of
        each class if the task has classes."""
        return pd.DataFrame(
            [
                {
                    "label": answer.label,
                    "score": answer.confidence,
                    **answer.details,
                    **{f"score_{name}": score for name, score in answer.scores.items()},
                }
                for answer in self.answering(texts)
            ]
        )


class OfTexts(Served):
    def predict(
        self, context: Any, model_input: list[str], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        return self.answered([(text, "") for text in model_input])


class OfPairs(Served):
    def predict(
        self, context: Any, model_input: list[Pair], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        return self.answered([(pair.text, pair.second) for pair in model_input])


def _loaded(file: Path) -> ModuleType:
    """Import a module, or a package by its __init__.py, under a name unique to this version."""
    folder = file.parent if file.name == "__init__.py" else None
    name = f"registered_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(
        name, file, submodule_search_locations=[str(folder)] if folder else None
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


set_model(OfPairs() if ModelConfig().get("two_texts") else OfTexts())
