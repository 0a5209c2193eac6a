"""Maintenance of a folder: `bertline fsck`, `gc` and `forget`."""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.cli import terminal
from flows.environment import prefect_home
from flows.line import only_line
from flows.steps import cache_folder
from flows.worktree import TREES
from pipeline.core.config import parse, read_recipe, read_recipes
from pipeline.core.errors import UserError
from pipeline.core.log import Console, Log, no_log
from pipeline.core.records import Publication
from pipeline.core.workspace import DATA, FEEDBACK, LABELS, LOCK, ORDER, STATE, tracking
from pipeline.registry.client import SQLITE
from pipeline.registry.versions import Registry
from pipeline.sources.remote import DOWNLOADS
from pipeline.stages.ingest.params import IngestParams
from pipeline.upkeep import forget as forgetting
from pipeline.upkeep import fsck as checks
from pipeline.upkeep import gc as collecting
from pipeline.upkeep import history, returned
from pipeline.upkeep.cache import Cache, named_in, read_lock, uncached
from pipeline.upkeep.rows import Forgotten, read_ids

DVC = Path(".dvc")
DEFINITION = Path("dvc.yaml")
RESUME = STATE / "state"
ANSWERS = STATE / "answers"
TEXTS = (STATE / "search", STATE / "embed" / "runs", STATE / "predict")  # of these commands
REMOTE = re.compile(r"^\['?remote", re.MULTILINE)  # a section of DVC's settings


def fsck(recipe: str | None) -> int:
    """Check everything, or one recipe. Returns 1 if something is damaged."""
    names = [recipe] if recipe and read_recipe(recipe) else list(read_recipes())
    damaged = 0
    for finding in findings(Cache(cache_folder()), names, only=bool(recipe), log=Console("fsck")):
        print(finding.what if finding.damage else f"note: {finding.what}")
        damaged += finding.damage
    print(f"{damaged} damaged" if damaged else "nothing is damaged")
    return 1 if damaged else 0


def findings(
    cache: Cache, names: list[str], *, only: bool, log: Log = no_log
) -> Iterator[checks.Finding]:
    """Yield damage and notes; with `only`, check just the cache objects of these recipes."""
    stages = _lock()
    kept_out = {name: uncached(DEFINITION, name) for name in names}
    wanted: dict[str, str] = {}
    for name in names:
        wanted |= checks.in_use(_of(name, stages), kept_out[name])
    yield from checks.check_cache(cache, wanted, only, log=log)
    for name in names:
        yield from checks.check_work(_of(name, stages), Path(), log=log)
        yield from checks.check_records(DATA / name)
    if tracking().startswith(SQLITE):
        database = Path(tracking().removeprefix(SQLITE))
        if not database.exists():
            return
        broken = list(checks.check_database(database))
        yield from broken
        if broken:
            return
    registry = Registry(tracking())
    for name in names:
        yield from checks.check_registry(registry, name, cache, kept_out[name], log=log)


def gc(keep: int, budget: str | None, act: bool) -> int:
    """Print what may be deleted, and with `act` delete it. Returns 1 if the budget is exceeded."""
    limit = collecting.read_size(budget) if budget else None
    names = list(read_recipes())
    cache, registry = Cache(cache_folder()), Registry(tracking())
    _refuse_shared(cache)
    with _alone(names):
        plan = collecting.plan(
            registry,
            {name: _published(name) for name in names},
            collecting.Workspace(cache, _named_now(), RESUME),
            time.time(),
            keep=keep,
            budget=limit,
        )
        print(_table(plan) if terminal.watched() else collecting.table(plan))
        for note in plan.notes:
            print(f"note: {note}")
        if act:
            collecting.collect(plan.items, log=Console("gc"))
        elif plan.items:
            print("nothing has been deleted: --yes deletes it")
    if limit is not None and plan.after > limit:
        print(
            f"{collecting.shown(limit)} cannot be reached: {collecting.shown(plan.after)} are kept"
            " for versions that the ledger can return to, files in use and the last versions"
        )
        return 1
    return 0


def _table(plan: collecting.Plan) -> str:
    """Format a plan for a terminal."""
    heads = ("what goes", "how many", "frees")
    rows = [dict(zip(heads, row, strict=True)) for row in collecting.rows(plan)]
    return "\n".join([*terminal.table(rows, numbers=heads[1:]), collecting.stays(plan)])


def forget(recipe: str, ids: Path, act: bool) -> int:
    """Print where a person's rows are, and with `act` remove them. Returns 1 if some are left."""
    params = parse(IngestParams, read_recipe(recipe).get("ingest"), f"recipes.{recipe}.ingest")
    wanted = read_ids(ids)
    log = Console("forget")
    cache, registry = Cache(cache_folder()), Registry(tracking())
    with _alone([recipe]):
        rows, root = DATA / recipe / "ingest" / "rows.parquet", Path.cwd()
        made = forgetting.below(DATA / recipe)
        tables = [path for path in (rows, *cache.objects().values()) if path.exists()]
        columns = (params.text, *([params.second] if params.second else []))
        sources = {part.source: part.layout for part in params.parts()}
        found = forgetting.find(wanted, sources, columns, tables)
        sent = [folder / f"{recipe}.jsonl" for folder in (LABELS, FEEDBACK)]
        places = [*found.places, *map(str, returned.look(sent, wanted, found))]
        trained = forgetting.trained_on(registry, recipe, wanted)
        known = found.known.union(*(seen for seen in trained.values() if seen))
        if unknown := sorted(wanted - known):
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise UserError(
                f"{ids}: {', '.join(unknown[:5])}{more}: no row of {recipe} has that id; nothing"
                " has been done"
            )
        forgotten = Forgotten.of(wanted, found.texts.values(), found.others)
        surely = forgetting.source_objects(found.places)
        objects = forgetting.holders(cache, forgotten, surely, log=log)
        steps = [
            *forgetting.cache_steps(cache, objects),
            *forgetting.mlflow_steps(registry, recipe, forgotten, log=log),
            *forgetting.prefect_steps(prefect_home(), forgotten),
            *forgetting.whole_folder_steps(
                [RESUME / recipe, ANSWERS, DOWNLOADS, *TEXTS, *_trees(params)]
            ),
            *forgetting.file_steps(forgetting.below(DVC / "tmp"), forgotten, root),
            *forgetting.file_steps([f for f in made if f != rows], forgotten, root),
            *forgetting.source_steps(found.places, root, sources, columns),
            *returned.steps(sent, forgotten),
            *forgetting.file_steps([f for f in made if f == rows], forgotten, root),
        ]
        print(f"{len(wanted)} texts of {recipe} are to be forgotten:")
        for step in steps:
            print(f"  {step.what}")
            if act:
                step.go()
        left = list(forgetting.remains(root, forgotten, [ids], log=log)) if act else []
        prefect = prefect_home() / "prefect.db"
        left += [prefect] if act and forgetting.in_prefect(prefect, forgotten) else []
    for line in _learned(recipe, registry.champion(recipe), trained):
        print(line)
    for line in _beyond(found, places, forgotten, objects):
        print(line)
    if not act:
        print("nothing has been done: --yes does it")
        return 0
    for path in left:
        print(_still(path.relative_to(root) if path.is_relative_to(root) else path, recipe, ids))
    if not left:
        print(f"no file of this folder holds them any more; {ids} still names them")
    return 1 if left else 0


def _trees(params: IngestParams) -> Iterator[Path]:
    """Yield the worktrees of the recipes that share a source: each has a copy of it."""
    sources = set(params.sources())
    for name in read_recipes():
        other = parse(IngestParams, read_recipe(name).get("ingest"), f"recipes.{name}.ingest")
        if sources & set(other.sources()):
            yield TREES / name


def _still(path: Path, recipe: str, ids: Path) -> str:
    other = path.parts[1] if path.parts[0] == DATA.name and len(path.parts) > 2 else recipe
    other = path.stem if path.parent in (LABELS, FEEDBACK) else other
    if other != recipe and other in read_recipes():
        return f"still in {path}: bertline forget {other} --ids {ids}"
    return f"still in {path}: delete them there"


def _learned(
    recipe: str, champion: str | None, trained: Mapping[str, set[str] | None]
) -> Iterator[str]:
    """Yield a line for each version that was trained on the rows, and how to replace it."""
    for number, seen in trained.items():
        who = f"{recipe}/{number}{', the champion,' if number == champion else ''}"
        if seen is None:
            yield f"{who} has no list of its rows: assume that it has learned from them"
        elif seen:
            yield f"{who} has learned from {len(seen)} of them"
    if any(seen is None or seen for seen in trained.values()):
        yield (
            f"bertline run {recipe} trains a version without them; the weights above keep what"
            " they learned until their versions are deleted in MLflow"
        )
    else:
        yield f"no version has learned from them; bertline run {recipe} makes the tables anew"


def _beyond(
    found: forgetting.Found, places: Iterable[str], forgotten: Forgotten, objects: set[str]
) -> Iterator[str]:
    """Yield what stays, as it cannot be identified or is elsewhere; `places` had the rows."""
    if twins := found.twins():
        yield (
            f"{len(twins)} rows that differ only in case or white space stay:"
            f" {', '.join(twins[:5])}: list them too if they are the same person's"
        )
    if forgotten.wordless:
        yield (
            f"{forgotten.wordless} of the texts have too few distinctive words: they are searched"
            " for by their ids, and in the present source"
        )
    for source in places:
        if history.remembers(Path(), source):
            yield (
                f"git's history still holds {source} as it was: git filter-repo --invert-paths"
                f" --path {source} takes it out; then add it again, and clone anew elsewhere"
            )
        if Path(f"{source}.dvc").exists():
            yield f"{source} is DVC's: dvc add {source}"
    if objects and any(REMOTE.search(file.read_text(encoding="utf-8")) for file in _configs()):
        names = " ".join(f"files/md5/{name[:2]}/{name[2:]}" for name in sorted(objects))
        yield f"a DVC remote keeps what was pushed to it: delete there: {names}"
    if any(os.environ.get(f"PREFECT_API_{n}") for n in ("URL", "DATABASE_CONNECTION_URL")):
        yield "Prefect's server keeps its own log lines: they were not searched"


def _configs() -> list[Path]:
    return [file for file in (DVC / "config", DVC / "config.local") if file.exists()]


@contextmanager
def _alone(names: list[str]) -> Iterator[None]:
    """Hold the locks of all runs, stages and DVC. Raises UserError if one of them is taken."""
    locks = [STATE / "locks" / f"{name}.{stage}.lock" for name in names for stage in ORDER]
    locks += TREES.glob("*/.bertline/locks/*.lock")
    with only_line(wait=False), ExitStack() as held:
        # DVC records the outputs of a stage only under its own lock
        for lock in (*locks, DVC / "tmp" / "lock"):
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                raise UserError(
                    f"{lock}: a stage or dvc is running in this folder: wait for its end"
                ) from None
        yield


def _refuse_shared(cache: Cache) -> None:
    if not cache.folder.resolve().is_relative_to(Path.cwd().resolve()):
        raise UserError(
            f"{cache.folder}: lies outside of this folder, and other projects may use it:"
            " dvc gc --workspace --projects names them all"
        )


def _named_now() -> set[str]:
    """Return the objects named in dvc.lock and .dvc files, here and at the tips of git."""
    texts = list(history.lock_files(Path()))
    here = [LOCK, *(f for f in Path().rglob("*.dvc") if f.is_file() and ".venv" not in f.parts)]
    texts += [(str(file), file.read_text(encoding="utf-8")) for file in here if file.exists()]
    found: set[str] = set()
    for name, text in texts:
        found |= named_in(name, text)
    return found


def _published(recipe: str) -> str | None:
    path = DATA / recipe / "publish" / "publication.json"
    return Publication.read(path).version if path.exists() else None


def _lock() -> dict[str, Any]:
    return read_lock(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}


def _of(recipe: str, stages: Mapping[str, Any]) -> dict[str, Any]:
    return {stage: entry for stage, entry in stages.items() if stage.endswith(f"@{recipe}")}
