"""A registered version's folder becomes something that answers, by its own code.

What MLflow's own loading does (`pipeline/registry/served_model.py`), without MLflow: the
version's runtime and tasks are loaded under a name that no other version has, and compiled from the
source that was checked, never from a compiled file beside it.
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

CLOSE = 0.02  # by which a score may differ between two machines
SMOKE = (
    "",
    "a",
    "\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\N{THUMBS UP SIGN} \N{COMBINING ACUTE ACCENT}",
    "这是一个句子。",
    "before\0after",
    "a long text " * 500,
)
_numbers = count()


class Version:
    """A version that answers, on `threads` threads a batch."""

    def __init__(
        self, recipe: str, number: str, files: Mapping[str, Path], threads: int, prefix: str
    ) -> None:
        runtime = _load(files["runtime"], f"{prefix}_runtime")
        tasks = _load(files["tasks"] / "__init__.py", f"{prefix}_tasks")
        told = json.loads(files["settings"].read_text(encoding="utf-8"))
        serving = old_names.renamed(told, old_names.SETTINGS)
        self.recipe, self.number, self.name = recipe, number, f"{recipe}/{number}"
        self.task: Task = tasks.get(serving["task"])
        self.classes: list[str] = list(serving["classes"])
        self.two_texts: bool = self.task.two_texts
        self.threads = threads
        encoder = _encoder(tasks, self.task, files["tokenizer"], serving)
        model = runtime.OnnxModel(files["model"], serving["padding"], threads)
        self.provider: str = model.provider
        self.model_bytes = files["model"].stat().st_size
        answering = _shared(tasks, "answering")
        self._answering = answering.Answering(
            self.task, encoder, model, self.classes, serving["decision"]
        )
        smoke = files["model"].with_name("smoke.json")
        self.stored: dict[str, Any] = json.loads(smoke.read_bytes()) if smoke.exists() else {}
        """`texts`, pairs of them, and their `answers` when the version was made; or nothing."""

    def answer(self, texts: "Sequence[Texts]", batch_size: int) -> "list[Answer]":
        """One answer a text; from any thread."""
        answers: list[Answer] = self._answering(texts, batch_size)
        return answers


def _encoder(tasks: ModuleType, task: "Task", tokenizer: Path, serving: Mapping[str, Any]) -> Any:
    """Of a version's task; before tasks had their own encoders, all had one."""
    asked = tokenizer, serving["max_length"], serving["long_text"], serving["overlap"]
    if hasattr(task, "encoder"):
        return task.encoder(*asked, serving["masking"])
    return _shared(tasks, "encoding").Encoder(*asked, task.cut, task.offsets)


def _shared(tasks: ModuleType, name: str) -> ModuleType:
    """A module that a version's tasks share: in `base`, or beside the tasks in versions of the time
    when each task was one file."""
    try:
        return import_module(f"{tasks.__name__}.base.{name}")
    except ModuleNotFoundError:
        return import_module(f"{tasks.__name__}.{name}")


def open_version(
    recipe: str, number: str, folder: Path, files: Mapping[str, str] | None, threads: int
) -> Version:
    """The version in a folder, whose files have the SHA-256 that `files` tells (None: not asked).

    Raises UserError, which names the file, where one is not the version's own, and where the
    version cannot be loaded.
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
    """Raises UserError for the first file, by name, that is not what it was when the version was
    registered."""
    if not folder.is_dir():
        raise UserError(f"{name}: {folder} is missing: it is not served")
    there = {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file()
        and file.name != "registered_model_meta"  # MLflow's, of a copy
        and "__pycache__" not in file.parts
    }
    for file in sorted(there | files.keys()):
        if file not in there:
            what = "is missing"
        elif file not in files:
            what = "was not there"
        elif sha256_of(folder / file) != files[file]:
            what = "has changed"
        else:
            continue
        raise UserError(f"{file} of {name} {what}: it is not served")


def try_out(version: Version) -> None:
    """Raises UserError where a version does not answer texts of all kinds with finite scores, or
    its stored texts as it did when it was made."""
    texts = [(text, second) for text in SMOKE for second in _seconds(version, text)]
    for (text, _), answer in zip(texts, _tried(version, texts), strict=True):
        if why := _unsound(answer):
            raise UserError(f"{version.name} is not served: {why} for a text like {text[:20]!r}")
    if not version.stored:
        return
    own = _tried(version, [(text, second) for text, second in version.stored["texts"]])
    then = version.stored["answers"]
    alike = version.task.same([each.label for each in own], [each["label"] for each in then])
    for place, (answer, stored, same) in enumerate(zip(own, then, alike, strict=True), 1):
        if not _agrees(answer, stored, bool(same)):
            raise UserError(
                f"{version.name} is not served: it answers text {place} of its smoke.json"
                f" {answer.label[:40]!r} ({answer.confidence:.2f}), and answered"
                f" {stored['label'][:40]!r} ({stored['score']:.2f}) when it was made"
            )


def _seconds(version: Version, text: str) -> tuple[str, ...]:
    return ("a second one", "", text) if version.two_texts else ("",)


def _tried(version: Version, texts: "Sequence[Texts]") -> "list[Answer]":
    try:
        answers = version.answer(texts, 8)
    except Exception as error:
        raise UserError(f"{version.name} is not served: it cannot answer: {_line(error)}") from None
    if len(answers) != len(texts):
        raise UserError(
            f"{version.name} is not served: {len(answers)} answers to {len(texts)} texts"
        )
    return answers


def _unsound(answer: "Answer") -> str:
    """What is wrong with an answer; "" where nothing is."""
    if not all(math.isfinite(score) for score in (answer.confidence, *answer.scores.values())):
        return "its score is not finite"
    try:
        json.dumps(dict(answer.details), allow_nan=False)
    except (TypeError, ValueError):
        return "its details cannot be sent"
    return ""


def _agrees(answer: "Answer", stored: Mapping[str, Any], same: bool) -> bool:
    """True if an answer is the stored one, as far as two machines agree: `same` is the task's word
    on the labels, which counts where no score tells."""
    scores: Mapping[str, float] = stored["scores"]
    if answer.label != stored["label"]:
        tells_nothing = not scores and answer.confidence == stored["score"] == 1.0
        if not same if tells_nothing else abs(answer.confidence - stored["score"]) > CLOSE:
            return False
    return answer.scores.keys() == scores.keys() and all(
        abs(answer.scores[name] - score) <= CLOSE for name, score in scores.items()
    )


# loading


class _FromSource(SourceFileLoader):
    """Compiles what is there, and reads and writes no compiled file."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _load(file: Path, name: str) -> ModuleType:
    """A module, or a package by its __init__.py."""
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
    """Where a version's parts lie, by the names that it was registered with."""
    from ruamel.yaml import YAML

    described = YAML(typ="safe").load(folder / "MLmodel")
    listed = described["flavors"]["python_function"]["artifacts"]
    return {name: folder / artifact["path"] for name, artifact in listed.items()}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".rstrip(": ")
