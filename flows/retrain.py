"""Retraining while nobody looks: decide whether, run the line, push, ask the gate, tell people.

It works in the recipe's own worktree of the commit that `ref` names, on the data that lies in the
owner's folder; it touches neither the owner's files nor a branch. It runs as a Prefect deployment
(`bertline schedule`), or by hand: `bertline retrain news`.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from flows import line as lines  # first: it tells Prefect things before that is imported

# isort: split

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from flows import gate as the_gate
from flows import steps, worktree
from flows.notify import Message, Outcome, message, notify
from pipeline import recipe as recipes
from pipeline.adapters.mlflow import Registry
from pipeline.adapters.mlflow_client import SQLITE, run_url
from pipeline.adapters.mlflow_files import LOCK, ROWS
from pipeline.changes import Changes, compare
from pipeline.errors import Unavailable, UserError
from pipeline.lineage import MADE_BY
from pipeline.log import Tells
from pipeline.promotion import registry as promotion
from pipeline.promotion.evidence import rescore
from pipeline.records import Decision, Ladder, Publication, Verdict
from pipeline.retraining import Kind, Past, Plan, Rescore, plan
from pipeline.sources import HUB, PACKAGE
from pipeline.workspace import DATA, MLFLOW_FILE, tracking

PINS = "constraints.txt"
Inputs = dict[Kind, list[str]]
OUTCOMES: dict[Decision, Outcome] = {"promote": "promoted", "hold": "held", "reject": "rejected"}


@flow(name="retrain", flow_run_name="retrain {recipe}", retries=0)
def retrain(recipe: str, ref: str = "HEAD", force: bool = False) -> State[object]:
    """Retrain a recipe where that is worth it.

    Args:
        recipe: A block of params.yaml.
        ref: The commit or branch whose code and recipe are run; data are taken as they lie there.
        force: Run the line also where nothing is new.
    """
    home = Path.cwd()
    with lines.only_line(True, get_run_logger().info), _embedded_beside(home):
        cache = steps.cache_folder().absolute()
        with contextlib.chdir(worktree.prepare(home, recipe, ref)):
            steps.share_cache(cache)
            told = _outcome(recipe, home, recipes.load(recipe), force)
    kind = Failed if told.fields["outcome"] == "failed" else Completed
    return kind(message=_line(told))


def _line(told: Message) -> str:
    return f"{told.title}: {told.fields['reason']}"


def _outcome(recipe: str, home: Path, settings: recipes.Recipe, force: bool) -> Message:
    """Do the work, in the recipe's worktree, and tell people how it went."""
    log = Tells(get_run_logger().info)

    def failed(reason: str) -> Message:
        told = message(recipe, "failed", reason, flow_run=flow_run.ui_url)
        notify(settings.retrain.notify, told, log)
        return told

    try:
        told = _work(recipe, home, settings, force)
    except UserError as error:
        return failed(str(error))
    except Exception as error:  # a bug of ours: people get a line, the log its stack trace
        failed(f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    log.say(_line(told))
    notify(settings.retrain.notify, told, log)
    return told


def _work(recipe: str, home: Path, settings: recipes.Recipe, force: bool) -> Message:
    remote = steps.remote()
    decided = decide(recipe, home, settings, force, remote)
    if not decided.run:
        return message(recipe, "not retrained", decided.told, flow_run=flow_run.ui_url)
    publication = lines.make(recipe, lines.DAY)
    kept = worktree.keep_lock(Path.cwd(), recipe, publication.version)
    get_run_logger().info(f"{recipe}/{publication.version}: its lock is kept as {kept}")
    if remote:
        push(recipe, publication.version, remote)
    verdict = lines.gate(settings, publication)
    return _judged(recipe, verdict, publication, decided)


def _judged(recipe: str, verdict: Verdict, publication: Publication, decided: Plan) -> Message:
    outcome, reason = OUTCOMES[verdict.decision], verdict.reason
    if outcome == "promoted":
        champion = promotion.champion_of(Registry(tracking()), recipe)
        if champion != publication.version:
            outcome = "awaiting a person"
            reason += f": bertline promote {recipe}/{publication.version} --reason TEXT"
    run = run_url(tracking(), publication.run)
    return message(
        recipe,
        outcome,
        f"{reason} ({decided.told})",
        verdict,
        run=run,
        report=f"{run}/artifacts/report.html" if run else None,
        flow_run=flow_run.ui_url,
    )


@task(task_run_name="decide")
def decide(
    recipe: str, home: Path, settings: recipes.Recipe, force: bool, remote: str | None
) -> Plan:
    """Compare today's inputs with those of the champion and of the last version; keep what was
    decided as a record, an artifact and a line."""
    logger = get_run_logger()
    registry = Registry(tracking())
    champion = promotion.champion_of(registry, recipe)
    numbers = [n for n in dict.fromkeys((champion, registry.last_version(recipe))) if n]
    runs = {number: registry.version_tags(recipe, number)["run"] for number in numbers}
    if numbers:
        _put_lock(registry, recipe, runs[numbers[-1]])
    if remote:
        try:
            steps.pull(recipe)
        except UserError as error:
            logger.warning(f"{error}: what {remote} has is made anew here")
    worktree.mirror(home, Path.cwd(), _data_of(settings))
    past, changes, scored = None, None, None
    for number in numbers:
        _put_lock(registry, recipe, runs[number])
        inputs = _by_kind(recipe, steps.changed_inputs(recipe, MADE_BY), settings)
        past = Past(f"{recipe}/{number}", _fate(registry, recipe, number, champion), inputs)
        if not inputs:
            break
    installed = _installed(registry, runs[champion]) if champion else []
    if past and installed:
        past = replace(past, installed=installed)
    if past and (installed or {"data", "recipe", "pins"} & past.changed.keys()):
        steps.run_stage("ingest", recipe, False, False, lines.DAY)
        number = past.version.partition("/")[2]
        changes = _row_changes(registry, recipe, runs[number])
        if champion and (installed or "pins" in past.changed):
            scored = _rescored(registry, recipe, champion, settings)
    decided = plan(settings.retrain, recipe, past, changes, scored, force=force)
    decided.write(DATA / recipe / "retrain" / "plan.json")
    create_markdown_artifact(_page(decided), key=steps.artifact_key(recipe, "plan"))
    logger.info(f"{'retraining' if decided.run else 'not retraining'}: {decided.told}")
    return decided


@task(task_run_name="push")
def push(recipe: str, number: str, remote: str) -> None:
    """Send what was made to DVC's remote. Raises Unavailable: then nothing is promoted."""
    try:
        steps.push(recipe)
    except UserError as error:
        raise Unavailable(
            f"{recipe}/{number} is made and not promoted, for the remote {remote!r} has not got it:"
            f" {error}: the next run sends it and asks the gate"
        ) from None
    get_run_logger().info(f"{recipe}/{number}: sent to the remote {remote!r}")


@contextlib.contextmanager
def _embedded_beside(home: Path) -> Iterator[None]:
    """Without a server MLflow's file is the owner's, also from within the worktree."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    if not before:
        os.environ["MLFLOW_TRACKING_URI"] = f"{SQLITE}{home / MLFLOW_FILE}"
    try:
        yield
    finally:
        if not before:
            del os.environ["MLFLOW_TRACKING_URI"]


def _put_lock(registry: Registry, recipe: str, run: str) -> None:
    path = registry.artifact(run, LOCK)
    steps.put_lock(recipe, json.loads(path.read_text(encoding="utf-8")))


def _data_of(settings: recipes.Recipe) -> list[str]:
    """The paths that hold rows and weights which lie in the owner's folder."""
    rows = [] if _is_packaged(*settings.ingest.sources().values()) else [settings.watch]
    return rows + ([] if _is_packaged(settings.base.model) else [settings.base.watch])


def _is_packaged(*sources: str) -> bool:
    return all(source.startswith((PACKAGE, HUB)) for source in sources)


def _by_kind(recipe: str, changed: set[str], settings: recipes.Recipe) -> Inputs:
    """Changed inputs by what they mean to people; what stages hand on does not count."""
    found: Inputs = {}
    for name in sorted(changed):
        if name == f"recipes.{recipe}.base" or (
            name == settings.base.watch and not _is_packaged(settings.base.model)
        ):
            kind: Kind = "base"
        elif name.startswith("recipes."):
            kind = "recipe"
        elif name == PINS:
            kind = "pins"
        elif name == settings.watch:
            kind = "data"
        elif name.startswith("data/behaviour"):
            kind = "behaviour suites"
        elif name.startswith(f"data/{recipe}/"):
            continue
        else:
            kind = "code"
        found.setdefault(kind, []).append(name)
    return found


def _fate(registry: Registry, recipe: str, number: str, champion: str | None) -> str | None:
    if number == champion:
        return "the champion"
    judged = [e for _, e, _ in registry.entries(recipe) if e.version == number and e.decision]
    return f"{judged[-1].event}: {judged[-1].reason}" if judged else None


def _installed(registry: Registry, run: str) -> list[str]:
    """Packages whose installed version is another than when a version was made."""
    ladder = Ladder.read(registry.artifact(run, "records/ladder.json"))
    return [
        f"{name} {then} -> {now}"
        for name, then in ladder.machine.versions.items()
        if (now := version(name)) != then
    ]


def _row_changes(registry: Registry, recipe: str, run: str) -> Changes | None:
    import pandas as pd

    columns = ["id", "label", "split"]
    try:
        before = pd.read_parquet(registry.artifact(run, ROWS), columns=columns)
    except UserError:  # of a version that was made before its rows were kept
        return None
    now = pd.read_parquet(DATA / recipe / "ingest" / "rows.parquet", columns=columns)
    return compare(before, now)


def _rescored(
    registry: Registry, recipe: str, champion: str, settings: recipes.Recipe
) -> Rescore | None:
    import pandas as pd

    rows = pd.read_parquet(DATA / recipe / "ingest" / "rows.parquet", columns=["id", "text"])
    log = Tells(get_run_logger().info)
    found = rescore(the_gate.bench_of(registry, recipe, settings, log), champion, rows)
    log.say(found.sentence if found else f"{recipe}/{champion}: the ledger has no answers of it")
    return found


def _page(decided: Plan) -> str:
    """A plan as Markdown."""
    told = [f"- {each}" for each in decided.new]
    if decided.rescore:
        told.append(f"- {decided.rescore.sentence}")
    head = f"# {decided.recipe}: {'retraining' if decided.run else 'not retraining'}"
    return "\n".join([head, "", decided.why, "", *told, ""])
