"""Loading of a registered version, which answers with the code stored in it.

This does without MLflow what MLflow does to load it (`pipeline/registry/served_model.py`): the
version's runtime and tasks are imported under a name that no other version has, and compiled from
the source that was checked, never read from compiled files.
"""

import importlib.util
import json
import math
import sys
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.core import old_names
from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of

if TYPE_CHECKING:
    from pipeline.tasks.base import Answer, Task
    from pipeline.tasks.base.encoding import Texts

CLOSE = 0.02  # most that a score may differ between two machines
SMOKE = (  # texts that are hard for tokenizers
    "",
    "a",
    "\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\N{THUMBS UP SIGN} \N{COMBINING ACUTE ACCENT}",
    "这是一个句子。",
    "before\0after",
    "a long text " * 500,
)
_numbers = count()


class Version:
    """Loaded version of a model, which uses `threads` threads per batch."""

    def __init__(
        self, recipe: str, number: str, files: Mapping[str, Path], threads: int, prefix: str
    ) -> None:
        runtime = _load(files["runtime"], f"{prefix}_runtime")
        tasks = _load(files["tasks"] / "__init__.py", f"{prefix}_tasks")
        content = json.loads(files["settings"].read_text(encoding="utf-8"))
        settings = old_names.renamed(content, old_names.SETTINGS)
        self.recipe, self.number, self.name = recipe, number, f"{recipe}/{number}"
        self.task: Task = tasks.get(settings["task"])
        self.classes: list[str] = list(settings["classes"])
        self.two_texts: bool = self.task.two_texts
        self.threads = threads
        encoder = _encoder(tasks, self.task, files["tokenizer"], settings)
        model = runtime.OnnxModel(files["model"], settings["padding"], threads)
        self.provider: str = model.provider
        self.model_bytes = files["model"].stat().st_size
        answering = _shared(tasks, "answering")
        self._answering = answering.Answering(
            self.task, encoder, model, self.classes, settings["decision"]
        )
        smoke = files["model"].with_name("smoke.json")
        self.stored: dict[str, Any] = json.loads(smoke.read_bytes()) if smoke.exists() else {}
        """`texts` (pairs) and the `answers` of the benchmark to them; empty if there are none."""

    def answer(self, texts: "Sequence[Texts]", batch_size: int) -> "list[Answer]":
        """Return one answer per text. Thread-safe."""
        answers: list[Answer] = self._answering(texts, batch_size)
        return answers


def _encoder(tasks: ModuleType, task: "Task", tokenizer: Path, settings: Mapping[str, Any]) -> Any:
    """Return the encoder of a version's task; in old versions all tasks share one class."""
    options = tokenizer, settings["max_length"], settings["long_text"], settings["overlap"]
    if hasattr(task, "encoder"):
        return task.encoder(*options, settings["masking"])
    return _shared(tasks, "encoding").Encoder(*options, task.cut, task.offsets)


def _shared(tasks: ModuleType, name: str) -> ModuleType:
    """Import a module that a version's tasks share: from `base`, or in old versions, in which each
    task is one file, from beside the tasks."""
    try:
        return import_module(f"{tasks.__name__}.base.{name}")
    except ModuleNotFoundError:
        return import_module(f"{tasks.__name__}.{name}")


def open_version(
    recipe: str, number: str, folder: Path, files: Mapping[str, str] | None, threads: int
) -> Version:
    """Load the version in a folder after checking its files against the digests `files`, if given.

    Raises UserError, which names the file, if a file does not match or the version cannot be
    loaded.
    """
    name = f"{recipe}/{number}"
    if files is not None:
        check_files(name, folder, files)
    prefix = f"registered_{next(_numbers)}"
    try:
        version = Version(recipe, number, _artifacts(folder), threads, prefix)
    except Exception as error:
        _unload(prefix)
        raise UserError(f"{name} cannot be loaded: {_line(error)}") from None
    weakref.finalize(version, _unload, prefix)
    return version


def check_files(name: str, folder: Path, files: Mapping[str, str]) -> None:
    """Raise UserError for the first file, by name, that is missing, extra or differs from its
    SHA-256 in `files`."""
    if not folder.is_dir():
        raise UserError(f"{name}: {folder} is missing: it is not served")
    present = {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file()
        and file.name != "registered_model_meta"  # MLflow adds it to downloads
        and "__pycache__" not in file.parts
    }
    for file in sorted(present | files.keys()):
        if file not in present:
            what = "is missing"
        elif file not in files:
            what = "is not among its registered files"
        elif sha256_of(folder / file) != files[file]:
            what = "has changed"
        else:
            continue
        raise UserError(f"{file} of {name} {what}: it is not served")


def try_out(version: Version) -> None:
    """Raise UserError if a version does not answer texts of all kinds with finite scores, or its
    stored texts with the stored answers."""
    texts = [
        (text, second)
        for text in SMOKE
        for second in (("a second one", "", text) if version.two_texts else ("",))
    ]
    for (text, _), answer in zip(texts, _answers(version, texts), strict=True):
        if problem := _problem(answer):
            raise UserError(
                f"{version.name} is not served: {problem} for a text like {text[:20]!r}"
            )
    if not version.stored:
        return
    found = _answers(version, [(text, second) for text, second in version.stored["texts"]])
    expected = version.stored["answers"]
    same = version.task.same([each.label for each in found], [each["label"] for each in expected])
    for number, (answer, stored, alike) in enumerate(zip(found, expected, same, strict=True), 1):
        if not _agrees(answer, stored, bool(alike)):
            raise UserError(
                f"{version.name} is not served: it answers text {number} of its smoke.json"
                f" {answer.label[:40]!r} ({answer.confidence:.2f}), and answered"
                f" {stored['label'][:40]!r} ({stored['score']:.2f}) when it was made"
            )


def _answers(version: Version, texts: "Sequence[Texts]") -> "list[Answer]":
    try:
        answers = version.answer(texts, 8)
    except Exception as error:
        raise UserError(f"{version.name} is not served: it cannot answer: {_line(error)}") from None
    if len(answers) != len(texts):
        raise UserError(
            f"{version.name} is not served: {len(answers)} answers to {len(texts)} texts"
        )
    return answers


def _problem(answer: "Answer") -> str:
    """Return what is wrong with an answer, "" if nothing is."""
    if not all(math.isfinite(score) for score in (answer.confidence, *answer.scores.values())):
        return "its score is not finite"
    try:
        json.dumps(dict(answer.details), allow_nan=False)
    except (TypeError, ValueError):
        return "its details cannot be sent"
    return ""


def _agrees(answer: "Answer", stored: Mapping[str, Any], same: bool) -> bool:
    """True if an answer equals the stored one up to the differences between machines.

    `same` is True if the task takes their labels for equal; it counts if there are no scores.
    """
    scores: Mapping[str, float] = stored["scores"]
    if answer.label != stored["label"]:
        unscored = not scores and answer.confidence == stored["score"] == 1.0
        if not same if unscored else abs(answer.confidence - stored["score"]) > CLOSE:
            return False
    return answer.scores.keys() == scores.keys() and all(
        abs(answer.scores[name] - score) <= CLOSE for name, score in scores.items()
    )


# loading


class _FromSource(SourceFileLoader):
    """Loader that compiles the source and neither reads nor writes compiled files."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _load(file: Path, name: str) -> ModuleType:
    """Import a module, or a package given by its __init__.py, under a name."""
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    for inside in file.parent.rglob("__init__.py") if folders else ():
        folder = str(inside.parent)
        sys.path_importer_cache[folder] = FileFinder(folder, (_FromSource, SOURCE_SUFFIXES))
    spec = importlib.util.spec_from_file_location(
        name, file, loader=_FromSource(name, str(file)), submodule_search_locations=folders
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _unload(prefix: str) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{prefix}_")]:
        del sys.modules[name]


def _artifacts(folder: Path) -> dict[str, Path]:
    """Return the paths of a version's artifacts by the names in its MLmodel file."""
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(folder / "MLmodel")
    artifacts = content["flavors"]["python_function"]["artifacts"]
    return {name: folder / artifact["path"] for name, artifact in artifacts.items()}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".rstrip(": ")
