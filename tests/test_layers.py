"""The shape of the house: imports point down, vendors have one room, deps are complete."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import tasks
from pipeline.core.workspace import ORDER
from pipeline.registry.publisher import copy_code
from pipeline.stages.finetune.resume_key import imported_files, imports_of
from tests.conftest import ROOT

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# what may import what: a room imports from its own floor and from those below
FLOORS = [
    ("flows.cli",),
    ("flows",),
    ("pipeline.__main__", "pipeline.recipe"),
    (
        "pipeline.batch",
        "pipeline.embeddings",
        "pipeline.promotion",
        "pipeline.report",
        "pipeline.upkeep",
    ),
    ("pipeline.serving", "pipeline.stages"),
    ("pipeline.registry", "pipeline.runtimes", "pipeline.retraining"),
    ("pipeline.models", "pipeline.plots", "pipeline.sources"),
    ("pipeline.metrics",),
    ("pipeline.core",),
    ("pipeline.tasks",),
]
VENDORS = {
    "charset_normalizer": {"pipeline/sources/encodings.py"},
    "fsspec": {"pipeline/sources/remote.py"},
    "spacy": {"pipeline/sources/docbin.py"},
    "python_calamine": {"pipeline/sources/spreadsheets.py"},
    "great_expectations": {"pipeline/stages/validate/expectations.py"},
    "onnx": {"pipeline/stages/export/onnx.py", "pipeline/stages/export/quantize.py"},
    "onnxruntime": {
        "pipeline/stages/export/onnx.py",
        "pipeline/stages/export/quantize.py",
        "pipeline/runtimes/onnx_runtime.py",
    },
    "mlflow": {
        f"pipeline/registry/{name}.py"
        for name in (
            *("artifacts", "client", "ledger", "live_run", "lock"),
            *("publisher", "served_model", "versions"),
        )
    },
    "matplotlib": {
        "pipeline/plots/png.py",
        "pipeline/plots/svg.py",
        "pipeline/report/charts.py",
    },
    "jinja2": {"pipeline/report/html.py"},
    "peft": {"pipeline/stages/finetune/lora.py"},
    "fastapi": {f"pipeline/serving/{name}.py" for name in ("app", "handlers", "openapi", "pages")},
    "starlette": {
        f"pipeline/serving/{name}.py" for name in ("app", "guard", "handlers", "openapi", "pages")
    },
    "usearch": {"pipeline/embeddings/index.py"},
    "uvicorn": {"pipeline/serving/protocol.py", "pipeline/serving/worker.py"},
    "prometheus_client": {"pipeline/serving/metrics.py"},
    "prefect": {
        "flows/deployments.py",
        "flows/line.py",
        "flows/notify.py",
        "flows/retrain.py",
        "flows/steps.py",
    },
}
# what a file reads beside its imports
READS = {
    "pipeline/stages/evaluate/behaviour.py": "pipeline/stages/evaluate/suites",
    "pipeline/registry/publisher.py": "pipeline/registry/served_model.py",
}
HOMONYMS = {"flows/cli/embeddings.py": {"similarity"}}  # a column of hits
TASKS = {name: ROOT / "pipeline" / "tasks" / name for name in tasks.known()}
HEADS = sorted(path.stem for path in (ROOT / "pipeline/models/heads").glob("*.py"))
MOST_LINES, MOST_PARAMETERS = 60, 7  # of a function
NO_SUBJECT = {  # words that no docstring begins with
    *("as", "at", "by", "for", "from", "how", "in", "it", "its", "let", "of", "on", "so"),
    *("that", "those", "to", "what", "where", "whether", "which", "who", "with"),
}
FILES = sorted((ROOT / "pipeline").rglob("*.py")) + sorted((ROOT / "flows").rglob("*.py"))
MORE = sorted((ROOT / "infra").rglob("*.py"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """All nodes of a file's syntax tree, the module first."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def in_package(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def floor_of(module: str) -> int:
    """The number of the first floor that names a module's package, the top one 0."""
    floors = (i for i, floor in enumerate(FLOORS) for name in floor if in_package(module, name))
    return next(floors, len(FLOORS))


def reached(stage: str, task: str) -> set[str]:
    """The project's files that a stage of a recipe of that task can load."""
    room = ROOT / "pipeline" / "stages" / stage
    starts = [ROOT / "pipeline/__main__.py", room / "stage.py", room / "params.py"]
    files = imported_files(*starts, *TASKS[task].rglob("*.py"))
    return {name_of(file) for file in files if not is_silent(file)}


def is_silent(file: Path) -> bool:
    """True if a package's own file holds a docstring and nothing else."""
    return file.name == "__init__.py" and len(ast.parse(file.read_text()).body) < 2


def listed(stage: str, task: str) -> list[str]:
    deps = STAGES[stage]["do"]["deps"]
    return [dep.replace("${item.task}", task) for dep in deps if dep.startswith("pipeline")]


def covered(name: str, deps: Iterable[str]) -> bool:
    return any(name == dep or name.startswith(f"{dep}/") for dep in deps)


def test_imports_point_down() -> None:
    for own, name in ((module_of(path), name) for path in FILES for name in imports_of(path)):
        if in_package(name, "pipeline") or in_package(name, "flows"):
            assert floor_of(name) >= floor_of(own), f"{own} imports {name}, which lies above it"


@pytest.mark.parametrize("of", ["files", "rooms"])
def test_there_is_no_circle(of: str) -> None:
    """Imports for types alone count, too."""
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        for target in taken_from(path):
            a, b = (name_of(p) if of == "files" else room_of(p) for p in (path, target))
            if a != b:
                arrows.setdefault(a, set()).add(b)
    while loose := {name for name in arrows if not arrows[name] & arrows.keys()}:
        arrows = {name: to for name, to in arrows.items() if name not in loose}
    assert not arrows


def taken_from(path: Path) -> set[Path]:
    """The files that a file takes a name from."""
    names = MODULES.keys() & imports_of(path)
    inner = {name.rpartition(".")[0] for name in names}
    return {MODULES[name] for name in names - inner}


def room_of(path: Path) -> str:
    """A folder; the stages, the tasks and the heads are rooms each."""
    parts = path.relative_to(ROOT).parts[:-1]
    return "/".join(parts[: 3 if parts[1:2] in (("stages",), ("tasks",), ("models",)) else 2])


def test_vendors_have_one_room() -> None:
    for name, module in ((name_of(path), module) for path in FILES for module in imports_of(path)):
        rooms = VENDORS.get(module.split(".")[0])
        assert rooms is None or name in rooms, f"{name} imports {module}"


@pytest.mark.parametrize("stage", ORDER)
def test_stages_do_not_import_each_other(stage: str) -> None:
    for path in (ROOT / "pipeline" / "stages" / stage).rglob("*.py"):
        for name in imports_of(path):
            other = name.removeprefix("pipeline.stages.").split(".")[0]
            assert other == stage or other not in ORDER, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_depends_on_all_that_it_can_load(stage: str, task: str) -> None:
    deps, files = listed(stage, task), reached(stage, task)
    files |= {READS[name] for name in files & READS.keys()}
    assert not {name for name in files if not covered(name, deps)}


def test_finetune_depends_on_nothing_else() -> None:
    """Finetune is the costly stage: whatever makes it stale costs a training."""
    files = set().union(*(reached("finetune", task) for task in TASKS))
    for task in TASKS:
        for dep in listed("finetune", task):
            path = ROOT / dep
            there = [path] if path.is_file() else path.rglob("*.py")
            for file in there:
                assert is_silent(file) or name_of(file) in files, f"{dep}: {file} is not reached"


def test_publish_depends_on_what_the_lineage_key_hashes() -> None:
    """Else a version's key would be that of other code than dvc.lock names."""
    code = {dep for stage in ORDER for dep in listed(stage, "${item.task}")}
    assert not {dep for dep in code if not covered(dep, listed("publish", "${item.task}"))}


def test_dvc_yaml_is_read_in_a_minute() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 290


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_depends_on_the_pins_and_reads_its_section(stage: str) -> None:
    block = STAGES[stage]["do"]
    assert "constraints.txt" in block["deps"]
    sections = set(block["params"])
    assert sections & {f"recipes.${{key}}.{stage}", "recipes.${key}"}


def test_every_file_has_a_docstring() -> None:
    for path in FILES:
        module = nodes_of(path)[0]
        assert isinstance(module, ast.Module)
        assert ast.get_docstring(module), f"{path}: say what it is for"


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    for path in (*FILES, *MORE, *(ROOT / "bench").glob("*.py"), *(ROOT / "tests").rglob("*.py")):
        for text in docstrings(path):
            assert text.split()[0].lower() not in NO_SUBJECT, f"{name_of(path)}: {text}"


def docstrings(path: Path) -> Iterable[str]:
    """Docstrings of modules, classes, functions and fields: strings that are statements."""
    for node in nodes_of(path):
        match node:
            case ast.Expr(ast.Constant(str(text))):
                yield text


def test_the_served_code_imports_nothing_of_ours() -> None:
    for name in ("runtimes/onnx_runtime", "registry/served_model"):
        found = set(imports_of(ROOT / "pipeline" / f"{name}.py"))
        assert not {m for m in found if m.split(".")[0] in ("pipeline", "torch", "transformers")}


@pytest.mark.parametrize("task", TASKS)
def test_no_task_uses_another(task: str) -> None:
    for path in (TASKS[task]).rglob("*.py"):
        for name in imports_of(path):
            other = name.removeprefix("pipeline.tasks.").split(".")[0]
            assert other == task or other not in TASKS, f"{name_of(path)} imports {name}"


def test_what_tasks_share_knows_none_of_them() -> None:
    for path in (ROOT / "pipeline/tasks/base").glob("*.py"):
        for name in imports_of(path):
            assert name.removeprefix("pipeline.tasks.").split(".")[0] not in TASKS


def test_a_tasks_name_is_branched_on_nowhere() -> None:
    """Outside of its own folder, and of recipes and their gallery, no code knows a task's name."""
    for path in FILES:
        if not path.is_relative_to(ROOT / "pipeline" / "tasks") and path.stem != "old_names":
            found = compared_with(path) & TASKS.keys() - HOMONYMS.get(name_of(path), set())
            assert not found, f"{path}: {found}"


def test_a_heads_name_is_branched_on_nowhere() -> None:
    """Outside of models/heads and tasks nobody asks which head a task or a model has."""
    for path in FILES:
        parts = path.relative_to(ROOT).parts
        if parts[1:2] == ("tasks",) or parts[1:3] == ("models", "heads"):
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Compare | ast.Match | ast.Subscript):
                asked = any(
                    isinstance(part, ast.Attribute) and part.attr == "head"
                    for part in ast.walk(node)
                )
                assert not asked, f"{path}:{node.lineno} asks for a head by name"
        assert len(keys_of_dicts(path) & set(HEADS)) < 2, f"{path} lists heads by name"


def compared_with(path: Path) -> set[object]:
    """Constants that a file compares something with, or looks up."""
    return {
        part.value
        for node in nodes_of(path)
        if isinstance(node, ast.Compare | ast.Match | ast.Dict)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant)
    }


def keys_of_dicts(path: Path) -> set[object]:
    return {
        key.value
        for node in nodes_of(path)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }


def test_functions_are_short_and_take_few_parameters() -> None:
    """Commands and stages take as many parameters as they need."""
    for path, node in ((file, node) for file in (*FILES, *MORE) for node in nodes_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MOST_LINES, f"{path}: {node.name} is long"
            free = is_command(path) or is_stage(path, node.name)
            assert free or parameters_of(node) <= MOST_PARAMETERS, f"{path}: {node.name} takes many"


def is_command(path: Path) -> bool:
    return path.is_relative_to(ROOT / "flows" / "cli" / "commands")


def is_stage(path: Path, function: str) -> bool:
    """True if it is the function of a stage, which is called as its folder."""
    return path == ROOT / "pipeline" / "stages" / function / "stage.py"


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Their number, without what Python itself hands to a method."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_tasks_load_where_nothing_else_of_ours_is(tmp_path: Path) -> None:
    """Registered versions carry them to machines without PyTorch and without this project."""
    for task in TASKS:
        copy_code(tasks.get(task), tmp_path / task)
        assert {path.name for path in (tmp_path / task).iterdir()} == {"__init__.py", "base", task}
    code = (
        "import sys; sys.path.insert(0, '.'); from importlib import import_module\n"
        f"for task in {[*TASKS]}:\n"
        "    import_module(task).get(task); import_module(f'{task}.base.answering')\n"
        "own = [m for m in sys.modules if m.split('.')[0] in"
        " ('pipeline', 'torch', 'transformers', 'sklearn', 'scipy', 'pydantic')]\n"
        "assert not own, own"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
