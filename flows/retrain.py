"""Unattended retraining: decide if it is worth it, run the pipeline, push, ask the gate, notify.

It works in the recipe's own git worktree, on the commit that `ref` names and the data of the user's
folder. It changes neither the user's files nor a branch. It runs as a Prefect deployment
(`bertline schedule`) or once: `bertline retrain news`.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flows import line as lines  # first: it sets Prefect's environment variables

# isort: split

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from flows import gate as the_gate
from flows import steps, worktree
from flows.notify import Message, Outcome, message, notify
from pipeline import recipe as recipes
from pipeline import tasks
from pipeline.core.config import PARAMS_FILE, parse, read_recipe, read_task
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.locations import HUB, PACKAGE, is_local, is_remote
from pipeline.core.log import FunctionLog
from pipeline.core.records import Benchmark, Publication
from pipeline.core.workspace import DATA, LABELS, STATE, tracking
from pipeline.promotion import champion as promotion
from pipeline.promotion.evidence import rescore
from pipeline.registry.artifacts import LOCK, ROWS
from pipeline.registry.client import SQLITE, run_url
from pipeline.registry.ledger import Ledger
from pipeline.registry.lineage import MADE_BY
from pipeline.registry.records import Decision, Verdict
from pipeline.registry.versions import Registry
from pipeline.retraining.plan import Channel, Kind, Past, Plan, Rescore, RetrainParams, plan
from pipeline.retraining.row_changes import Changes, compare
from pipeline.sources.remote import check_watched
from pipeline.tasks.base import Task

PINS = "constraints.txt"
FIRST_STAGE = Path("pipeline/stages/ingest/stage.py")
ORPHAN_TIMEOUT = 600.0  # seconds for a stage to end after its flow was killed
Inputs = dict[Kind, list[str]]
OUTCOMES: dict[Decision, Outcome] = {"promote": "promoted", "hold": "held", "reject": "rejected"}


@flow(name="retrain", flow_run_name="retrain {recipe}", retries=0)
def retrain(recipe: str, ref: str = "HEAD", force: bool = False) -> State[object]:
    """Retrain a recipe if that is worth it.

    Args:
        recipe: A block of params.yaml.
        ref: The commit or branch whose code and recipe are used; data come from this folder.
        force: Run the pipeline even if nothing is new.
    """
    read_recipe(recipe)
    outcome = _outcome(recipe, Path.cwd(), ref, force)
    kind = Failed if outcome.fields["outcome"] == "failed" else Completed
    return kind(message=_line(outcome))


def _line(outcome: Message) -> str:
    return f"{outcome.title}: {outcome.fields['reason']}"


def _outcome(recipe: str, home: Path, ref: str, force: bool) -> Message:
    """Retrain, send the notifications, and return the message."""
    log = FunctionLog(get_run_logger().info)

    def sent(outcome: Message) -> Message:
        log.info(_line(outcome))
        notify(_channels(recipe, home), outcome, log)
        return outcome

    def failed(reason: str) -> Message:
        return message(recipe, "failed", reason, flow_run=flow_run.ui_url)

    try:
        with lines.only_line(True, log.info), _users_database(home):
            cache = steps.cache_folder().absolute()
            _wait_for_stages(home / worktree.TREES / recipe)
            tree = worktree.prepare(home, recipe, ref)
            _check_layout(tree, ref)
            steps.configure(home, tree, cache)
            with contextlib.chdir(tree):
                return sent(_work(recipe, home, recipes.load(recipe), force))
    except UserError as error:
        return sent(failed(str(error)))
    except Exception as error:  # a bug: notify, and keep the stack trace in the log
        sent(failed(f"{type(error).__name__}: {error}".splitlines()[0]))
        raise


def _check_layout(tree: Path, ref: str) -> None:
    """Raise UserError if the commit has the code layout of an earlier version.

    The stages run the commit's code, while this flow reads their files and dependencies by today's
    paths.
    """
    if not (tree / FIRST_STAGE).exists():
        raise UserError(
            f"{ref}: its code has the layout of an earlier bertline, which this one cannot run:"
            " commit the code of this folder, and name that commit by --ref"
        )


def _channels(recipe: str, home: Path) -> list[Channel]:
    """Return the channels of the recipe in the user's folder; the commit's may be invalid."""
    try:
        section = read_recipe(recipe, home / PARAMS_FILE).get("retrain")
        return parse(RetrainParams, section, f"recipes.{recipe}.retrain").notify
    except UserError:
        return []


def _wait_for_stages(tree: Path) -> None:
    """Wait for stages of a killed flow: each ends when it next writes to its closed output."""
    for lock in (tree / STATE / "locks").glob("*.lock"):
        try:
            with FileLock(lock, timeout=ORPHAN_TIMEOUT):
                pass
        except Timeout:
            raise UserError(
                f"{lock.name}: a stage of an earlier run is still running: stop it"
            ) from None


def _work(recipe: str, home: Path, settings: recipes.Recipe, force: bool) -> Message:
    """Decide, and if it is worth it train, push and ask the gate, in the recipe's worktree."""
    remote = steps.remote()
    decided = decide(recipe, home, settings, force, remote)
    if not decided.run:
        return message(recipe, "not retrained", decided.explanation, flow_run=flow_run.ui_url)
    before = promotion.champion_of(Registry(tracking()), recipe)
    publication = lines.make(recipe, lines.DAY)
    kept = worktree.keep_lock(Path.cwd(), recipe, publication.version)
    get_run_logger().info(f"{recipe}/{publication.version}: its lock is kept as {kept}")
    if remote:
        push(recipe, publication.version, remote)
    if publication.version == before:
        reason = f"the result is {recipe}/{before}, the champion, again ({decided.explanation})"
        return message(recipe, "not retrained", reason, flow_run=flow_run.ui_url)
    verdict = lines.gate(settings, publication)
    return _judged(recipe, verdict, publication, decided)


def _judged(recipe: str, verdict: Verdict, publication: Publication, decided: Plan) -> Message:
    outcome, reason = OUTCOMES[verdict.decision], verdict.reason
    if outcome == "promoted":
        champion = promotion.champion_of(Registry(tracking()), recipe)
        if champion != publication.version:
            outcome = "awaiting a person"
            reason += f": bertline promote {recipe}/{publication.version} --reason TEXT"
    return message(
        recipe,
        outcome,
        f"{reason} ({decided.explanation})",
        verdict,
        run=run_url(tracking(), publication.run),
        report=run_url(tracking(), publication.run, "report.html"),
        flow_run=flow_run.ui_url,
    )


@task(task_run_name="decide")
def decide(
    recipe: str, home: Path, settings: recipes.Recipe, force: bool, remote: str | None
) -> Plan:
    """Compare the inputs with those of the champion and of the last version.

    Retraining is not worth it if either of them has the same inputs. The plan is kept as a record
    and an artifact, and logged.
    """
    logger = get_run_logger()
    check_watched(settings.watch)
    registry = Registry(tracking())
    champion = promotion.champion_of(registry, recipe)
    known = _known(registry, recipe, (champion, registry.last_version(recipe)))
    data = _data_of(recipe, settings)
    if remote:
        steps.put_lock(recipe, next(reversed(known.values()), {}))
        try:
            steps.pull(recipe, data)
        except UserError as error:
            logger.warning(f"{error}: continuing without the outputs of the remote {remote}")
    worktree.mirror(home, Path.cwd(), data)
    decided = plan(settings.retrain, recipe, None, force=force)
    for number, lock in known.items():
        steps.put_lock(recipe, lock)
        decided = _plan_against(registry, recipe, number, champion, settings, force)
        if not decided.run:
            break
    decided.write(DATA / recipe / "retrain" / "plan.json")
    create_markdown_artifact(_page(decided), key=steps.artifact_key(recipe, "plan"))
    logger.info(f"{'retraining' if decided.run else 'not retraining'}: {decided.explanation}")
    return decided


def _known(
    registry: Registry, recipe: str, numbers: tuple[str | None, ...]
) -> dict[str, dict[str, Any]]:
    """Return the dvc.lock entries of each version that has them."""
    found = {}
    for number in dict.fromkeys(number for number in numbers if number):
        try:
            path = registry.artifact(registry.version_tags(recipe, number)["run"], LOCK)
        except Unavailable:
            raise
        except UserError as error:
            get_run_logger().warning(f"{recipe}/{number} cannot be compared with: {error}")
        else:
            found[number] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _plan_against(
    registry: Registry,
    recipe: str,
    number: str,
    champion: str | None,
    settings: recipes.Recipe,
    force: bool,
) -> Plan:
    """Plan by comparing the inputs with those of one earlier version."""
    run = registry.version_tags(recipe, number)["run"]
    inputs = _by_kind(recipe, steps.changed_inputs(recipe, MADE_BY), settings)
    past = Past(
        version=f"{recipe}/{number}",
        fate=_fate(registry, recipe, number, champion),
        changed=inputs,
        installed=_installed(registry, run),
    )
    changes, scored = None, None
    pins = bool(past.installed) or "pins" in inputs
    if pins or {"data", "recipe"} & inputs.keys():
        steps.run_stage("ingest", recipe, False, False, lines.DAY)
        task = read_task(settings.task, f"recipes.{recipe}.task")
        changes = _row_changes(registry, recipe, run, task)
        if pins and champion:
            scored = _rescored(registry, recipe, champion, settings)
    return plan(settings.retrain, recipe, past, changes, scored, force=force)


@task(task_run_name="push")
def push(recipe: str, number: str, remote: str) -> None:
    """Push to DVC's remote. Raises Unavailable if that fails, so nothing is promoted."""
    try:
        steps.push(recipe)
    except UserError as error:
        raise Unavailable(
            f"{recipe}/{number} is registered and not promoted, since its push to the remote"
            f" {remote!r} failed: {error}: the next run pushes it and asks the gate"
        ) from None
    get_run_logger().info(f"{recipe}/{number}: sent to the remote {remote!r}")


@contextlib.contextmanager
def _users_database(home: Path) -> Iterator[None]:
    """Use the MLflow database of the user's folder within the worktree, if there is no server."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    if tracking().startswith(SQLITE):
        os.environ["MLFLOW_TRACKING_URI"] = f"{SQLITE}{home / tracking().removeprefix(SQLITE)}"
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _data_of(recipe: str, settings: recipes.Recipe) -> list[str]:
    """Return the paths of rows and weights in the user's folder."""
    rows = [settings.watch] if any(map(is_local, settings.ingest.sources())) else []
    rows.append(str(LABELS / f"{recipe}.jsonl"))
    return rows + ([settings.base.watch] if settings.base.local else [])


def _is_packaged(*sources: str) -> bool:
    return all(source.startswith((PACKAGE, HUB)) for source in sources)


def _normalised(watch: str) -> str:
    """Return a path or URL that DVC watches in one form: DVC tells it without an end slash."""
    return watch.rstrip("/") if is_remote(watch) else os.path.normpath(watch)


def _by_kind(recipe: str, changed: set[str], settings: recipes.Recipe) -> Inputs:
    """Group changed inputs by kind, without the outputs of earlier stages."""
    rows = _is_packaged(*settings.ingest.sources())
    kinds: dict[str, Kind] = {PINS: "pins", f"recipes.{recipe}.base": "base", str(LABELS): "data"}
    if settings.base.local:
        kinds[_normalised(settings.base.watch)] = "base"
    if not rows:
        kinds[_normalised(settings.watch)] = "data"  # even if the base is in the same folder
    found: Inputs = {}
    for name in sorted(changed):
        if name.startswith(f"data/{recipe}/"):
            continue
        kind = kinds.get(name if name.startswith("recipes.") else _normalised(name))
        if kind is None and name.startswith("recipes."):
            kind = "recipe"
        elif kind is None and name.startswith("data/behaviour"):
            kind = "behaviour suites"
        found.setdefault(kind or "code", []).append(name)
    return found


def _fate(registry: Registry, recipe: str, number: str, champion: str | None) -> str | None:
    if number == champion:
        return "the champion"
    entries = Ledger(registry, recipe).entries()
    judged = [entry for entry in entries if entry.version == number and entry.decision]
    return f"{judged[-1].event}: {judged[-1].reason}" if judged else None


def _installed(registry: Registry, run: str) -> list[str]:
    """Return the packages whose installed version differs from when a version was made."""
    try:
        runtimes = Benchmark.read(registry.artifact(run, "records/benchmark.json"))
    except Unavailable:
        raise
    except UserError:  # its run has no runtimes any more
        return []
    return [
        f"{name} {then} -> {now}"
        for name, then in runtimes.machine.versions.items()
        if (now := _version(name)) != then
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _row_changes(registry: Registry, recipe: str, run: str, task: Task) -> Changes | None:
    import pandas as pd

    columns = ["id", "label", "split"]
    try:
        before = pd.read_parquet(registry.artifact(run, ROWS), columns=columns)
    except Unavailable:
        raise
    except UserError:  # an earlier bertline did not keep the rows
        return None
    now = pd.read_parquet(DATA / recipe / "ingest" / "rows.parquet", columns=columns)
    return compare(before, now, None if task.exclusive else task.classes)


def _rescored(
    registry: Registry, recipe: str, champion: str, settings: recipes.Recipe
) -> Rescore | None:
    import pandas as pd

    log = FunctionLog(get_run_logger().info)
    if tasks.get(settings.task).with_neighbour:
        log.info(f"{recipe}/{champion}: answers depend on neighbouring texts: not compared again")
        return None
    columns = ["id", "text", "second"]
    rows = pd.read_parquet(DATA / recipe / "ingest" / "rows.parquet", columns=columns)
    found = rescore(the_gate.bench_of(registry, recipe, settings, log), champion, rows)
    log.info(
        found.sentence if found else f"{recipe}/{champion}: the ledger has none of its answers"
    )
    return found


def _page(decided: Plan) -> str:
    """Format a plan as Markdown."""
    items = [f"- {each}" for each in decided.new]
    if decided.rescore:
        items.append(f"- {decided.rescore.sentence}")
    head = f"# {decided.recipe}: {'retraining' if decided.run else 'not retraining'}"
    return "\n".join([head, "", decided.why, "", *items, ""])
