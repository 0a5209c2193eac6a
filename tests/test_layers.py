"""The shape of the house: imports point down, vendors have one room, deps are complete."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import tasks
from pipeline.stages import ORDER
from tests.conftest import ROOT

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# names of the stages package itself, which holds no stage
STAGE_NAMES = ("pipeline.stages.ORDER",)
# what may import what: a layer imports its own and those below, with the exceptions named
LAYERS = [
    ("flows",),
    ("pipeline.__main__", "pipeline.recipe", "pipeline.core.workspace"),
    (
        "pipeline.stages",
        "pipeline.embeddings",
        "pipeline.promotion",
        "pipeline.report",
        "pipeline.serving",
        "pipeline.upkeep",
    ),
    (
        "pipeline.adapters",
        "pipeline.stages.evaluate.behaviour",
        "pipeline.registry.lineage",
        "pipeline.stages.benchmark.candidates",
        "pipeline.sources",
    ),
    (
        *STAGE_NAMES,
        "pipeline.stages.artifacts",
        "pipeline.retraining.row_changes",
        "pipeline.core.config",
        "pipeline.stages.validate.near_duplicates",
        "pipeline.promotion.records",
        "pipeline.stages.benchmark.machine",
        "pipeline.core.records",
        "pipeline.retraining.plan",
        "pipeline.stages.evaluate.perturbations",
        "pipeline.metrics.scoring",
        "pipeline.core.text",
        "pipeline.core.log",
    ),
    ("pipeline.core.files", "pipeline.core.errors", "pipeline.tasks", "pipeline.metrics.names"),
]
VENDORS = {
    "great_expectations": {"pipeline/stages/validate/expectations.py"},
    "onnx": {"pipeline/stages/export/onnx.py"},
    "onnxruntime": {"pipeline/stages/export/onnx.py", "pipeline/runtimes/onnx_runtime.py"},
    "mlflow": {
        "pipeline/registry/live_run.py",
        "pipeline/registry/versions.py",
        "pipeline/registry/client.py",
        "pipeline/registry/ledger.py",
        "pipeline/registry/publisher.py",
        "pipeline/registry/lock.py",
        "pipeline/registry/artifacts.py",
        "pipeline/registry/served_model.py",
    },
    "matplotlib": {"pipeline/report/charts.py", "pipeline/report/figures.py"},
    "jinja2": {"pipeline/report/html.py"},
    "peft": {"pipeline/stages/finetune/lora.py"},
    "fastapi": {f"pipeline/serving/{name}.py" for name in ("app", "openapi", "pages")},
    "starlette": {f"pipeline/serving/{name}.py" for name in ("app", "guard", "openapi", "pages")},
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
READS = {
    "pipeline/stages/evaluate/behaviour.py": {"pipeline/stages/evaluate/suites"}
}  # what a file reads beside its imports
TASKS = [ROOT / f"pipeline/tasks/{name}.py" for name in tasks.known()]
OWN_TASK = "pipeline/tasks/${item.task}.py"  # of the recipe
FILES = sorted((ROOT / "pipeline").rglob("*.py")) + sorted((ROOT / "flows").rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file loads, at its top or inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # a folder that travels names what is beside it relatively
                package = ".".join(path.relative_to(ROOT).parent.parts)
                module = f"{package}.{module}".removesuffix(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def closure(*starts: Path) -> set[str]:
    """The project's files that are loaded by loading these."""
    seen: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting += [
            parent / "__init__.py"
            for parent in path.parents
            if (parent / "__init__.py").exists() and ROOT in parent.parents
        ]
        waiting += [found for name in imports(path) if (found := file_of(name))]
    return {path.relative_to(ROOT).as_posix() for path in seen}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> int:
    if module == "pipeline.stages":  # whatever is imported from it is judged by its own name
        return len(LAYERS)
    names = [i for i, layer in enumerate(LAYERS) for name in layer if in_package(module, name)]
    return names[-1] if names else len(LAYERS)


def in_package(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    own = module_of(path)
    for name in imports(path):
        if in_package(name, "pipeline") or in_package(name, "flows"):
            assert layer_of(name) >= layer_of(own), f"{own} imports {name}, which lies above it"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_vendors_have_one_room(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for module in imports(path):
        rooms = VENDORS.get(module.split(".")[0])
        assert rooms is None or name in rooms, f"{name} imports {module}"


@pytest.mark.parametrize("stage", ORDER)
def test_stages_do_not_import_each_other(stage: str) -> None:
    own = f"pipeline.stages.{stage}"
    path = ROOT / "pipeline" / "stages" / f"{stage}.py"
    others = [name for name in imports(path) if in_package(name, "pipeline.stages")]
    assert all(name.split(".")[2:3] != [o] for name in others for o in ORDER), f"{own}: {others}"


@pytest.mark.parametrize("stage", ORDER)
def test_deps_of_a_stage_are_complete(stage: str) -> None:
    """Every file of ours that a stage can load is a dep, and no dep is one that it does not."""
    listed = {dep for dep in STAGES[stage]["do"]["deps"] if dep.startswith("pipeline")}
    own = closure(ROOT / "pipeline/__main__.py", ROOT / f"pipeline/stages/{stage}.py", *TASKS)
    used = own - {path.relative_to(ROOT).as_posix() for path in TASKS} | {OWN_TASK}
    if listed == {"pipeline"}:  # the whole folder
        return
    assert listed == used.union(*(READS.get(name, set()) for name in used))


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_depends_on_the_pins_and_reads_its_section(stage: str) -> None:
    block = STAGES[stage]["do"]
    assert "constraints.txt" in block["deps"]
    sections = set(block["params"])
    assert sections & {f"recipes.${{key}}.{stage}", "recipes.${key}"}


def test_every_file_has_a_docstring() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path}: say what it is for"


def test_the_served_code_imports_nothing_of_ours() -> None:
    for name in ("onnx_runtime", "served_model"):
        found = set(imports(ROOT / "pipeline" / "adapters" / f"{name}.py"))
        assert not {m for m in found if m.split(".")[0] in ("pipeline", "torch", "transformers")}


def test_no_task_uses_another() -> None:
    for path in TASKS:
        others = {other.stem for other in TASKS} - {path.stem}
        for name in imports(path):
            assert name.removeprefix("pipeline.tasks.") not in others, f"{path.stem}: {name}"


def test_a_tasks_name_is_branched_on_nowhere() -> None:
    """Outside of its own file, and of recipes and their gallery, no code knows a task's name."""
    names = set(tasks.known())
    for path in FILES:
        if path in TASKS or "gallery" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.Match | ast.Dict):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                assert not constants & names, f"{path}: {constants & names}"


def test_tasks_load_where_nothing_else_of_ours_is(tmp_path: Path) -> None:
    """They travel inside registered versions, to machines with neither PyTorch nor this project."""
    shutil.copytree(ROOT / "pipeline" / "tasks", tmp_path / "carried")
    code = (
        "import sys; sys.path.insert(0, '.'); import carried; from carried import answering;"
        "[carried.get(name) for name in carried.known()];"
        "own = [m for m in sys.modules if m.split('.')[0] in"
        " ('pipeline', 'torch', 'transformers', 'sklearn', 'scipy', 'pydantic')];"
        "assert not own, own"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
