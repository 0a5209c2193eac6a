"""Recipes of the gallery, and new blocks in params.yaml.

A file of flows/gallery/ contains the description of a recipe (about, language, rows, data, and
folder if it shares the data of another) and the values that differ from the starting block of its
task. `{data}` stands for the folder of the data.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cli import terminal
from flows.cli.proposals.policies import propose_base, propose_policies
from flows.cli.proposals.proposal import propose
from flows.cli.proposals.values import Proposal, watchable
from pipeline import tasks
from pipeline.core.config import PARAMS_FILE, check_name, nearest, parse, read_recipes
from pipeline.core.errors import UserError
from pipeline.core.files import write_text
from pipeline.core.locations import HUB, PACKAGE, is_local, locate
from pipeline.core.log import Log, no_log
from pipeline.models.heads import head_of
from pipeline.stages.ingest.params import IngestParams
from pipeline.tasks.base import Task

GALLERY = Path(__file__).parent.parent / "gallery"
DEFAULTS = GALLERY / "defaults.yaml"
PLACE = "{data}"
RAW = "data/raw"
DEFAULT_TASK = "classification"
OVERLAP = 3  # windows share a third of their tokens with the next (Devlin et al. 2019)
MASKING = {"probability": 0.15, "whole_words": True}  # as BERT was pretrained (Devlin et al. 2019)


@dataclass(frozen=True)
class Ready:
    """Recipe of the gallery."""

    name: str
    about: str
    language: str
    rows: str
    """Published rows: train + validation + test, or all in one."""
    data: str
    """Source of the data and its licence."""
    folder: str
    """Folder of data/raw with the data."""
    block: Any
    """All values, with `{data}` in the paths."""

    def placed(self, folder: str | None = None) -> Any:
        """Return the block for data in `folder`, by default data/raw/<folder>."""
        place = (folder or f"{RAW}/{self.folder}").rstrip("/")
        return _mapped(deepcopy(self.block), lambda text: text.replace(PLACE, place))


def names() -> list[str]:
    """Return the names of the gallery's recipes."""
    return sorted(file.stem for file in GALLERY.glob("*.yaml") if file != DEFAULTS)


def ready(name: str) -> Ready:
    """Return a recipe of the gallery. Raises UserError for an unknown name."""
    if name not in names():
        raise UserError(f"the gallery has no recipe {name!r}{nearest(name, names())}")
    own = _yaml().load(GALLERY / f"{name}.yaml")
    description = {key: str(own.pop(key)) for key in ("about", "language", "rows", "data")}
    folder = own.pop("folder", name)
    block = starting_block(task_of(own.get("task", DEFAULT_TASK)))
    _merge(block, own)
    return Ready(name=name, folder=folder, block=block, **description)


def starting_block(task: Task) -> Any:
    """Return a complete block for a task: the defaults, adapted to its attributes."""
    block = _yaml().load(DEFAULTS)
    block.ca.comment = None  # the header of defaults.yaml
    main = task.metrics[0]
    block["task"] = task.name
    if task.baseline:
        block["evaluate"]["baseline"] = task.baseline[0]
    if task.cut == "second":  # any part of a long second text may matter
        length = block["tokenize"]["max_length"]
        block["tokenize"].update({"long_text": "windows", "overlap": length // OVERLAP})
    if not task.labelled:
        block["ingest"]["label"] = None
    if task.dynamic_masking:
        masking = {**MASKING, "packed": not task.with_neighbour}
        block["tokenize"].update({"long_text": "windows", "masking": masking})
    block["benchmark"]["metric"] = main
    gate = block["gate"]
    gate["metrics"][:] = [main]
    (floor,) = gate["floors"].values()
    gate["floors"].clear()
    gate["floors"][main] = floor
    _merge(block, head_of(task).defaults(task))
    for guardrail in _misfits(gate, task):
        gate["guardrails"][guardrail] = None
    return block


def _misfits(gate: Mapping[str, Any], task: Task) -> Iterator[str]:
    """Yield the guardrails that do not apply to the task: the gate refuses each of them alone."""
    from pipeline.promotion.gate import GateParams, check

    for guardrail, limit in gate["guardrails"].items():
        alone = {**gate, "guardrails": dict.fromkeys(gate["guardrails"]) | {guardrail: limit}}
        try:
            check(parse(GateParams, alone, "gate", DEFAULTS), task)
        except ValueError:
            yield guardrail


def listing() -> str:
    """Return the output of `bertline recipes`: a line per recipe."""
    header = ("recipe", "task", "language", "rows", "about")
    lines = [header]
    for name in names():
        recipe = ready(name)
        lines.append((name, recipe.block["task"], recipe.language, recipe.rows, recipe.about))
    if terminal.watched():
        return "\n".join(
            terminal.table([dict(zip(header, line, strict=True)) for line in lines[1:]])
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    widths.append(0)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def page(name: str) -> str:
    """Return the output of `bertline recipes NAME`: the block that `bertline add` writes."""
    recipe = ready(name)
    yaml = _yaml()
    head = f"# {recipe.about}\n# data: {recipe.data}\n"
    return head + _dumped(yaml, {name: recipe.placed()}).rstrip()


def add_ready(name: str, other: str | None, folder: str | None) -> str:
    """Write a recipe of the gallery into params.yaml. Returns its name there.

    Raises UserError if that name is taken or the data is missing.
    """
    recipe = ready(name)
    own = other or name
    _check_free(own)
    block = recipe.placed(folder)
    check_there(recipe, block)
    _write(own, block)
    return own


def check_there(recipe: Ready, block: Mapping[str, Any]) -> None:
    """Raise UserError, with the source of the data, if a file that the block names is missing."""
    ingest = block["ingest"]
    for path in filter(None, [*_texts(ingest["source"]), ingest["label_names"]]):
        if path.startswith(PACKAGE):
            locate(path)
        elif is_local(path) and not Path(path).exists():
            raise UserError(
                f"{path}: no such file: name the folder of the data by --data, or put it there:"
                f" {recipe.data}"
            )


def add_own(
    name: str,
    file: str,
    ingest: Mapping[str, Any],
    task: str | None,
    like: str | None,
    *,
    base: Callable[[Any, Proposal], None] | None = None,
    log: Log = no_log,
) -> list[str]:
    """Write a complete block for `file` into params.yaml. `ingest` holds the options that are
    given; the others are proposed from the rows. Other values are those of the recipe `like`, or
    the defaults of the task. `base` takes a base or a trained model that is given into the block.
    Returns lines that explain the proposal.

    Raises UserError if the name is taken, the file or a column is missing, the options do not fit
    the task, and for what cannot be decided.
    """
    known = _check_free(name)
    where = f"recipes.{name}.ingest"
    defaults = starting_block(task_of(DEFAULT_TASK))["ingest"]
    parse(IngestParams, {**defaults, "source": file, **ingest}, where)
    if task or like:
        block = _copied(like, known, task) if like else starting_block(task_of(task or ""))
        found = propose(file, ingest, block["task"], like=like is not None, log=log)
    else:
        found = propose(file, ingest, None, log=log)
        block = starting_block(task_of(found.task))
    source = found.ingest.get("source", file)
    block["watch"] = _watched([*_files_of(source, found.ingest), found.ingest.get("label_names")])
    block["ingest"].update({"source": source, **found.ingest})
    if not isinstance(source, str):
        block["ingest"].update({f"{split}_percent": 0 for split in source if split != "train"})
    if not task_of(block["task"]).labelled:
        block["ingest"]["label"] = None
    _merge(block, {"validate": found.validate, "finetune": found.finetune})
    if found.baseline in task_of(block["task"]).baseline:
        block["evaluate"]["baseline"] = found.baseline
    _check_readable(block, name)
    if base or not like:
        (base or propose_base)(block, found)
    propose_policies(block, found, name, log)
    column = block["ingest"]["label"] or block["ingest"]["text"]
    column = column if isinstance(column, str) else f"{len(column)} columns"
    kind = task_of(block["task"])
    block["publish"]["description"] = f"{kind.display_name}: {column} of {Path(file).name}."
    _write(name, block)
    return list(found.lines())


def _files_of(source: Any, ingest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of a source, and the translations of parallel ones."""
    for path in _texts(source):
        yield path
        if ingest.get("format") == "parallel":
            yield str(Path(path).with_suffix(f".{ingest['label']}"))


def _watched(paths: Sequence[str | None]) -> str:
    """Return what DVC watches for some sources and files: the only one, or their folder.

    Raises UserError if that folder holds the project.
    """
    known = list(dict.fromkeys(path for path in paths if path))
    if known[0].startswith((PACKAGE, HUB)):
        return "constraints.txt"
    local = [path for path in known if is_local(path)]
    if len(local) < 2:
        return known[0]
    absolute = any(map(os.path.isabs, local))
    parents = [Path(path).parent for path in local]
    folder = os.path.commonpath([p.resolve() if absolute else p for p in parents])
    if not watchable(Path(folder)):
        names = ", ".join(Path(path).name for path in local)
        raise UserError(
            f"{names}: move them into a folder such as data/raw/NAME, so that DVC can watch it"
        )
    return folder


def _copied(like: str, known: Sequence[str], task: str | None) -> Any:
    """Return a copy of a recipe's block without the values that belong to its rows."""
    if like not in known:
        raise UserError(f"{PARAMS_FILE}: no recipe {like!r} to copy from{nearest(like, known)}")
    block = _yaml(quotes=True).load(PARAMS_FILE)["recipes"][like]
    if task not in (None, block["task"]):
        raise UserError(f"--task {task}: recipes.{like} is of task {block['task']}: leave one out")
    ingest, own = block["ingest"], starting_block(task_of(block["task"]))
    if ingest["split"] or isinstance(ingest["source"], Mapping):  # its own percentages
        shares = "validation_percent", "test_percent"
        ingest.update({share: own["ingest"][share] for share in shares})
    ingest.update({"group": None, "split": None, "carry": [], "label_names": None})
    block["validate"]["labels"] = None
    block["evaluate"].update({"slices": [], "behaviour": []})
    block["gate"]["floors"] = own["gate"]["floors"]
    block["retrain"]["schedule"] = None
    return block


def task_of(name: str) -> Task:
    try:
        return tasks.get(name)
    except LookupError:
        raise UserError(f"there is no task {name!r}{nearest(name, tasks.known())}") from None


def _check_readable(block: Mapping[str, Any], name: str) -> None:
    from pipeline.sources import read_rows
    from pipeline.stages.ingest.params import check

    where = f"recipes.{name}.ingest"
    params = parse(IngestParams, block["ingest"], where)
    try:
        check(params, task_of(block["task"]))
    except ValueError as error:
        raise UserError(f"{where}.{error}") from None
    next(read_rows(params.sources()[0], params.columns(), params.parts()[0].layout), None)


def _check_free(name: str) -> Sequence[str]:
    """Return the names of all recipes. Raises UserError if `name` is one of them."""
    check_name(name)
    known = list(read_recipes())
    if name in known:
        raise UserError(f"{PARAMS_FILE}: recipes.{name} is there already: edit it, or take another")
    return known


def _write(name: str, block: Any) -> None:
    yaml = _yaml(quotes=True)
    with PARAMS_FILE.open(encoding="utf-8") as opened:
        content = yaml.load(opened)
    content["recipes"][name] = block
    write_text(PARAMS_FILE, _dumped(yaml, content))


def _merge(block: Any, own: Mapping[str, Any]) -> None:
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(block.get(key), Mapping):
            _merge(block[key], value)
        else:
            block[key] = value


def _texts(content: Any) -> Iterator[str]:
    """Yield every string in nested content."""
    if isinstance(content, str):
        yield content
        return
    for part in content.values() if isinstance(content, dict) else content:
        yield from _texts(part)


def _mapped(content: Any, change: Callable[[str], str]) -> Any:
    """Apply `change` to every string, in place, which keeps comments and the style of lists."""
    if isinstance(content, str):
        return change(content)
    places = range(len(content)) if isinstance(content, list) else content
    for place in places if isinstance(content, dict | list) else ():
        content[place] = _mapped(content[place], change)
    return content


def _yaml(quotes: bool = False) -> Any:
    """Return a YAML reader and writer that keeps comments, in the layout of params.yaml; with
    `quotes` it keeps the quotes of the file too."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = quotes
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _dumped(yaml: Any, content: Any) -> str:
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
