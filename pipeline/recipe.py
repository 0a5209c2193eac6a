"""Parser of a whole recipe: an error in any section is found before work begins."""

from pathlib import Path

from pydantic import Field

from pipeline.core.config import Settings, check_for_task, parse, read_recipe, read_task
from pipeline.core.errors import UserError
from pipeline.core.locations import HUB, PACKAGE, is_remote
from pipeline.core.workspace import DATA
from pipeline.models.bases import BaseParams
from pipeline.promotion import gate
from pipeline.promotion.gate import GateParams
from pipeline.retraining.plan import RetrainParams
from pipeline.sources.urls import check_url
from pipeline.stages.benchmark import params as benchmark
from pipeline.stages.benchmark.params import BenchmarkParams
from pipeline.stages.evaluate import behaviour
from pipeline.stages.evaluate import params as evaluate
from pipeline.stages.evaluate.params import EvaluateParams
from pipeline.stages.export.params import ExportParams
from pipeline.stages.finetune import params as finetune
from pipeline.stages.finetune.params import FinetuneParams
from pipeline.stages.ingest import params as ingest
from pipeline.stages.ingest.params import IngestParams
from pipeline.stages.publish.params import PublishParams
from pipeline.stages.tokenize import params as tokenize
from pipeline.stages.tokenize.params import TokenizeParams
from pipeline.stages.validate.params import ValidateParams


class Recipe(Settings):
    task: str
    """Name of a folder in pipeline/tasks/."""
    watch: str = Field(min_length=1)
    """Path whose change means new data: the file itself, or the versions file of a package."""
    base: BaseParams
    ingest: IngestParams
    validate_: ValidateParams = Field(alias="validate")  # pydantic's own name is `validate`
    tokenize: TokenizeParams
    finetune: FinetuneParams
    evaluate: EvaluateParams
    export: ExportParams
    benchmark: BenchmarkParams
    publish: PublishParams
    gate: GateParams
    retrain: RetrainParams


def load(name: str) -> Recipe:
    """Read and check a recipe of params.yaml. Raises UserError for the first error."""
    recipe = parse(Recipe, read_recipe(name), f"recipes.{name}")
    _check_task(recipe, f"recipes.{name}")
    missing = set(recipe.evaluate.slices) - set(recipe.ingest.carry)
    if missing:
        raise UserError(
            f"params.yaml: recipes.{name}.evaluate.slices: {sorted(missing)[0]!r} is not carried:"
            " add it to ingest.carry"
        )
    if is_remote(recipe.watch):
        check_url(recipe.watch)
    for source in recipe.ingest.sources():
        _check_watch(source, recipe.watch, f"recipes.{name}.watch")
    if recipe.ingest.label_names:
        _check_watch(recipe.ingest.label_names, recipe.watch, f"recipes.{name}.watch")
    if recipe.base.local:
        _check_watch(recipe.base.model, recipe.base.watch, f"recipes.{name}.base.watch")
    _check_behaviour(recipe, f"recipes.{name}.evaluate.behaviour")
    return recipe


def _check_task(recipe: Recipe, where: str) -> None:
    """Refuse values that the recipe's task does not use, instead of ignoring them."""
    task = read_task(recipe.task, f"{where}.task")
    check_for_task(ingest.check, recipe.ingest, task, f"{where}.ingest")
    check_for_task(tokenize.check, recipe.tokenize, task, f"{where}.tokenize")
    check_for_task(finetune.check, recipe.finetune, task, f"{where}.finetune")
    check_for_task(evaluate.check, recipe.evaluate, task, f"{where}.evaluate")
    check_for_task(benchmark.check, recipe.benchmark, task, f"{where}.benchmark")
    check_for_task(gate.check, recipe.gate, task, f"{where}.gate")


def _check_behaviour(recipe: Recipe, key: str) -> None:
    """Refuse behaviour suites that cannot be read or that DVC does not watch."""
    suites = []
    for name in recipe.evaluate.behaviour:
        suites.append(behaviour.read_suite(name))
        own = (DATA / "behaviour").resolve()
        if name not in behaviour.ready() and not Path(name).resolve().is_relative_to(own):
            raise UserError(
                f"params.yaml: {key}: {name!r} lies outside data/behaviour, where DVC would miss"
                " its changes: move it there"
            )
    if recipe.validate_.labels is not None:
        behaviour.check_labels(suites, recipe.validate_.labels)


def _check_watch(source: str, watch: str, key: str) -> None:
    """Refuse a local path outside of what DVC watches: its changes would go unseen."""
    if source.startswith((PACKAGE, HUB)):
        return
    if is_remote(source):
        check_url(source)
        own, watched = source.rstrip("/"), watch.rstrip("/")
        inside = own.startswith(f"{watched}/") and not own.startswith("http")  # has no folders
        if own != watched and not inside:
            raise UserError(f"params.yaml: {key}: is not {source!r}, whose changes DVC would miss")
        return
    if not Path(source).resolve().is_relative_to(Path(watch).resolve()):
        raise UserError(
            f"params.yaml: {key}: {watch!r} does not hold {source!r}, whose changes DVC would miss:"
            " name that path, or a folder around it"
        )
