"""Flow of one recipe: every stage through DVC, then the gate, then the alias."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows import environment

environment.prepare_prefect()  # before it is imported

# isort: split

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.steps import artifact_key, run_stage, stale_stages
from flows.summary import runtime_rows, score_rows, validation_text
from pipeline import recipe as recipes
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from pipeline.core.records import Benchmark, Publication, Scores, Validation
from pipeline.core.workspace import DATA, ORDER, STATE, tracking
from pipeline.registry.records import Verdict
from pipeline.sources.remote import check_watched


def _without_trace(record: object) -> bool:
    """Filter out the log records in which Prefect prints the stack trace of a UserError."""
    error = getattr(record, "exc_info", None)
    return not (error and isinstance(error[1], UserError))


for _runs in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_runs).addFilter(_without_trace)

DAY = 24 * 3600.0  # seconds


@flow(name="line", flow_run_name="{recipe}", retries=0)
def line(recipe: str, wait: bool = True, stage_timeout: float = DAY) -> Verdict:
    """Run a recipe's stale stages, ask the gate, and promote if it says so.

    With `wait`, wait for another run in this folder to end; without, raise UserError.
    `stage_timeout` is in seconds. Raises UserError for what the user can fix.
    """
    settings = recipes.load(recipe)
    check_watched(settings.watch)
    with only_line(wait, get_run_logger().info):
        verdict: Verdict = gate(settings, make(recipe, stage_timeout))
        return verdict


def make(recipe: str, stage_timeout: float) -> Publication:
    """Run the stages that are not fresh, and return the version that is registered in MLflow."""
    stale = stale_stages(recipe)
    ran = False
    for stage in ORDER:
        fresh = stage not in stale and not ran
        ran = ran or not fresh
        run_stage(stage, recipe, fresh, False, stage_timeout)
    publication = Publication.read(DATA / recipe / "publish" / "publication.json")
    if not is_registered(publication):
        get_run_logger().info(
            "this MLflow does not have the version yet: writing it from the records"
        )
        run_stage("publish", recipe, False, True, stage_timeout)
        publication = Publication.read(DATA / recipe / "publish" / "publication.json")
    if ran:
        show(recipe)
    return publication


@contextmanager
def only_line(wait: bool, tell: Callable[[str], object] = print) -> Iterator[None]:
    """Hold this folder's lock during a run. Raises UserError if it is taken, unless `wait`."""
    lock = STATE / "locks" / "line.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    guard = FileLock(lock)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise UserError("another line is running in this folder: wait for its end") from None
        tell("another line is running in this folder: waiting for its end")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def server() -> str | None:
    """Return the address of Prefect's server, None if it starts a temporary one."""
    from prefect.settings import PREFECT_API_URL

    address: str | None = PREFECT_API_URL.value()
    return address


def is_registered(publication: Publication) -> bool:
    from pipeline.registry.versions import Registry

    return Registry(tracking()).version_of(publication.model, publication.key) is not None


def show(recipe: str) -> None:
    """Show rows, scores and runtimes as artifacts in Prefect's UI."""
    home = DATA / recipe
    validation = Validation.read(home / "validate" / "validation.json")
    create_markdown_artifact(validation_text(validation), key=artifact_key(recipe, "validation"))
    scores = Scores.read(home / "evaluate" / "scores.json")
    create_table_artifact(score_rows(scores), key=artifact_key(recipe, "scores"))
    runtimes = Benchmark.read(home / "benchmark" / "benchmark.json")
    create_table_artifact(runtime_rows(runtimes), key=artifact_key(recipe, "runtimes"))


@task(task_run_name="gate")
def gate(settings: recipes.Recipe, publication: Publication) -> Verdict:
    """Judge the published version against the champion; promote it if the verdict says so."""
    from flows import gate as the_gate
    from pipeline.promotion.evidence import ask
    from pipeline.registry.versions import Registry
    from pipeline.report import page as report

    logger = get_run_logger()
    model, number = publication.model, publication.version
    bench = the_gate.bench_of(Registry(tracking()), model, settings, FunctionLog(logger.info))
    path = the_gate.verdict_path(model)
    if the_gate.in_use(bench, number):
        logger.info(f"{model}/{number} is the champion already")
        if path.exists() and (verdict := Verdict.read(path)).version == number:
            return verdict
        return ask(bench, number).write(path)
    verdict, event = the_gate.decide(bench, number, person=False)
    bench.registry.attach(publication.run, report.write(DATA / model, model))
    logger.info(f"verdict: {verdict.decision}: {verdict.reason}")
    create_markdown_artifact(the_gate.page(verdict), key=artifact_key(model, "verdict"))
    if event == "promote":
        logger.info(f"{model}/{number} is the champion")
    elif event == "await":
        logger.info(f"a person has to approve it: bertline promote {model}/{number} --reason TEXT")
    return verdict
