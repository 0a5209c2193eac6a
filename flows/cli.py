"""The command `bertline`. A subcommand imports what it needs when it is called, and no earlier."""

import argparse
import gc
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import PARAMS_FILE
from pipeline.errors import UserError
from pipeline.workspace import DATA, tracking

if TYPE_CHECKING:
    from pipeline.promotion.evidence import Bench
    from pipeline.records import Event

EXAMPLES = """examples:
  bertline new reviews reviews.csv --text review --label stars
  bertline check reviews
  bertline run reviews
  bertline predict reviews "I would buy it again"
  bertline explain reviews@champion
  bertline history reviews
  bertline rollback reviews
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit code; what a person can mend is told in one line."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.action(given) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bertline",
        description="From labelled text to a promoted, quantized encoder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: object, about: str, example: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(action=action)
        return added

    run = command("run", _run, "Bring a recipe up to date and ask the gate.", "bertline run news")
    run.add_argument("recipe", help="a block of params.yaml")
    run.add_argument("--no-wait", action="store_true", help="refuse where another line is running")
    run.add_argument(
        "--stage-timeout", type=float, default=24.0, metavar="HOURS", help="of each stage (24)"
    )

    retrain = command(
        "retrain",
        _retrain,
        "Decide whether a recipe is worth training again, and do it, in a worktree of its own.",
        "bertline retrain news",
    )
    retrain.add_argument("recipe")
    retrain.add_argument("--ref", default="HEAD", help="commit or branch to work on (HEAD)")
    retrain.add_argument("--force", action="store_true", help="also where nothing is new")

    schedule = command(
        "schedule",
        _schedule,
        "Create or update a Prefect deployment for each recipe that has a schedule.",
        "bertline schedule",
    )
    schedule.add_argument("--pool", help="a Prefect work pool that runs them (bertline work does)")

    command("work", _work, "Run what is scheduled, until it is ended.", "bertline work")

    take = command(
        "take",
        _take,
        "Take over the lock of a version that a scheduled run made, as a branch or a patch.",
        "bertline take news/4 --patch news-4.patch",
    )
    take.add_argument("version", help="RECIPE/VERSION")
    how = take.add_mutually_exclusive_group()
    how.add_argument("--branch", help="its name (bertline/RECIPE-VERSION)")
    how.add_argument("--patch", type=Path, metavar="FILE", help="a patch instead of a branch")

    new = command(
        "new",
        _new,
        "Add a recipe for your own rows to params.yaml.",
        "bertline new reviews data/raw/reviews.csv --text review --label stars",
    )
    new.add_argument("name", help="a-z, 0-9, - and _")
    new.add_argument("file", help="CSV, TSV, JSON Lines, Parquet, or a folder a label")
    new.add_argument("--text", default="text", help="column of the text (text)")
    new.add_argument("--label", default="label", help="column of the label (label)")
    new.add_argument("--like", default="news", help="recipe whose other values are copied (news)")

    check = command(
        "check",
        _check,
        "Parse a recipe, open its data and base, say what would run, how long and how large.",
        "bertline check news",
    )
    check.add_argument("recipe")

    predict = command(
        "predict",
        _predict,
        "Answer texts by the champion, through ONNX Runtime.",
        'bertline predict news "Shares fell" "A late goal"; cat texts | bertline predict news -',
    )
    predict.add_argument("recipe")
    predict.add_argument("texts", nargs="*", metavar="TEXT", help="texts, or - for standard input")
    predict.add_argument("--file", type=Path, help="a file with one text a line")
    predict.add_argument("--json", action="store_true", help="every class's score, a line a text")

    promote = command(
        "promote",
        _promote,
        "Ask the gate about a version; make it the champion when it says so.",
        "bertline promote news/3",
    )
    promote.add_argument("version", help="RECIPE/VERSION, or RECIPE for the last published one")
    promote.add_argument("--reason", default="", help="kept in the ledger; an override needs one")
    against = promote.add_mutually_exclusive_group()
    against.add_argument(
        "--override", action="store_true", help="promote whatever the gate says; give the reason"
    )
    against.add_argument(
        "--rebaseline",
        action="store_true",
        help="the labels have changed: judge it alone, on a test set frozen anew",
    )

    rollback = command(
        "rollback", _rollback, "Put the champion's predecessor back.", "bertline rollback news"
    )
    rollback.add_argument("recipe")
    rollback.add_argument("--reason", default="asked for", help="kept in the ledger")

    judge = command(
        "judge",
        _judge,
        "What the gate says of a version, in full; nothing is moved or written down.",
        "bertline judge news/3",
    )
    judge.add_argument("version", help="RECIPE/VERSION or RECIPE@champion")
    judge.add_argument("--json", action="store_true", help="the whole verdict as JSON")

    history = command(
        "history",
        _history,
        "What was in use when, and what the gate refused, as a table and a picture.",
        "bertline history news",
    )
    history.add_argument("recipe")

    explain = command(
        "explain",
        _explain,
        "Where a version comes from, how good it is, and when it was in use.",
        "bertline explain news@champion",
    )
    explain.add_argument("version", help="RECIPE/VERSION or RECIPE@champion")

    report = command(
        "report",
        _report,
        "Write a run's report again: one HTML file, from the records in its folder.",
        "bertline report news",
    )
    report.add_argument("recipe")

    fsck = command(
        "fsck",
        _fsck,
        "Hash again all that bertline stands on, and name what is damaged.",
        "bertline fsck news",
    )
    fsck.add_argument("recipe", nargs="?", help="only what belongs to it (everything)")

    gc = command(
        "gc",
        _gc,
        "Say what may go; nothing that the ledger can return to.",
        "bertline gc --budget 2GB --yes",
    )
    gc.add_argument(
        "--keep", type=_count, default=3, metavar="N", help="versions besides champions (3)"
    )
    gc.add_argument("--budget", metavar="SIZE", help="versions go only until the rest fits: 2GB")
    _with_yes(gc)

    forget = command(
        "forget",
        _forget,
        "Take a person's rows out of the source and of all that was made of it.",
        "bertline forget reviews --ids ids.txt --yes",
    )
    forget.add_argument("recipe")
    forget.add_argument(
        "--ids", type=Path, required=True, metavar="FILE", help="a row's id a line, of rows.parquet"
    )
    _with_yes(forget)

    ui = command("ui", _ui, "MLflow's pages on this machine only.", "bertline ui --port 5001")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    return parser


def _with_yes(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--yes", action="store_true", help="do it")
    how.add_argument("--dry-run", action="store_true", help="only say it, as without --yes")


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of versions")
    return int(text)


def _run(given: argparse.Namespace) -> int:
    from flows.line import line
    from flows.summary import summary
    from pipeline.adapters.mlflow_client import shown

    try:
        line(given.recipe, wait=not given.no_wait, stage_timeout=given.stage_timeout * 3600)
    except RuntimeError as error:
        if " API" not in str(error):
            raise
        raise UserError(
            f"Prefect: {str(error).splitlines()[0]}: start the server that PREFECT_API_URL names,"
            " or unset it"
        ) from None
    print(summary(given.recipe, DATA / given.recipe, shown(tracking())))
    return 0


def _retrain(given: argparse.Namespace) -> int:
    from flows.retrain import retrain

    state = retrain(given.recipe, given.ref, given.force, return_state=True)
    if state.is_failed():
        raise UserError(str(state.message))
    print(state.message)
    return 0


def _schedule(given: argparse.Namespace) -> int:
    from flows.deployments import PREFECT_FILE, schedule, write_prefect_yaml

    if write_prefect_yaml():
        print(f"{PREFECT_FILE}: written, to say what {PARAMS_FILE} says")
    print("\n".join(schedule(given.pool)))
    if given.pool:
        print(f"next: prefect worker start --pool {given.pool}")
    else:
        print("next: bertline work, in this folder, and leave it running")
    return 0


def _work(_: argparse.Namespace) -> int:
    from flows.deployments import work

    work()
    return 0


def _take(given: argparse.Namespace) -> int:
    from flows.worktree import take

    recipe, number = _version(given.version)
    if number is None:
        raise UserError(f"{given.version}: write RECIPE/VERSION, such as {recipe}/1")
    print(take(Path.cwd(), recipe, number, given.branch, given.patch))
    return 0


def _new(given: argparse.Namespace) -> int:
    from flows.recipes import add_recipe

    add_recipe(given.name, given.file, given.text, given.label, given.like)
    print(f"{PARAMS_FILE}: recipes.{given.name} is added; next: bertline check {given.name}")
    return 0


def _check(given: argparse.Namespace) -> int:
    from flows.recipes import outlook

    print(outlook(given.recipe))
    return 0


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from collecting what imports have made, then and at exit: it is all in use, and
    looking it through takes a quarter of a short command's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@_uncollected()
def _predict(given: argparse.Namespace) -> int:
    from pipeline.config import check_name
    from pipeline.text import excerpt

    check_name(given.recipe)
    texts = _texts(given)
    from pipeline.adapters.mlflow import Registry

    registry = Registry(tracking())
    number = registry.champion(given.recipe)
    if number is None:
        raise UserError(f"{given.recipe}: has no champion yet: bertline run {given.recipe}")
    for text, answer in zip(texts, registry.scores(given.recipe, number, texts), strict=True):
        if given.json:
            told = {"text": text, **answer, "version": f"{given.recipe}/{number}"}
            print(json.dumps(told, ensure_ascii=False))
        else:
            print(f"{answer['label']}\t{answer['score']:.3f}\t{excerpt(text, 60)}")
    return 0


def _texts(given: argparse.Namespace) -> list[str]:
    if given.file is not None:
        if not given.file.is_file():
            raise UserError(f"{given.file}: no such file")
        content = given.file.read_bytes()
        name = str(given.file)
    elif given.texts == ["-"] or (not given.texts and not sys.stdin.isatty()):
        content, name = sys.stdin.buffer.read(), "standard input"
    elif given.texts:
        return list(given.texts)
    else:
        raise UserError("predict: give texts, --file FILE, or - for standard input")
    texts = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            texts.append(line.decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}: is not UTF-8 (byte {error.start + 1}): mend that line"
            ) from None
    if not texts:
        raise UserError(f"{name}: is empty: one text a line is expected")
    return texts


def _version(name: str) -> tuple[str, str | None]:
    """RECIPE/VERSION, RECIPE@champion or RECIPE, as recipe and version."""
    from pipeline.config import check_name

    recipe, _, number = name.replace("@champion", "").partition("/")
    check_name(recipe)
    if number and not number.isdigit():
        raise UserError(f"{name}: write RECIPE/VERSION, such as {recipe}/1")
    return recipe, number or None


def _promote(given: argparse.Namespace) -> int:
    from flows import gate
    from pipeline.records import Publication

    recipe, number = _version(given.version)
    if number is None:
        number = Publication.read(DATA / recipe / "publish" / "publication.json").version
    bench = _bench(recipe)
    bench.registry.version_tags(recipe, number)
    already = gate.in_use(bench, number)
    if already and (given.override or given.rebaseline or gate.was_judged(bench, number)):
        print(f"{recipe}/{number} is the champion already")
        return 0
    if given.override or given.rebaseline:
        event: Event = "override" if given.override else "rebaseline"
        verdict = gate.overrule(bench, event, number, given.reason)
        print(f"{recipe}/{number} is the champion by {event}; the gate: {verdict.reason}")
        return 0
    verdict, event = gate.decide(bench, number, person=True, reason=given.reason)
    print(f"{verdict.decision}: {verdict.reason}")
    if event == "promote":
        print(f"{recipe}/{number} is the champion")
    elif already:
        print(f"it stays in use; to put its predecessor back: bertline rollback {recipe}")
    return gate.EXIT[verdict.decision]


def _judge(given: argparse.Namespace) -> int:
    from flows import gate
    from pipeline.promotion.evidence import ask
    from pipeline.promotion.registry import champion_of

    recipe, number = _version(given.version)
    bench = _bench(recipe)
    number = number or champion_of(bench.registry, recipe)
    if number is None:
        raise UserError(f"{recipe}: has no champion yet: name a version, or bertline run {recipe}")
    verdict = ask(bench, number)
    print(verdict.model_dump_json(indent=2) if given.json else gate.page(verdict))
    return gate.EXIT[verdict.decision]


def _bench(recipe: str) -> "Bench":
    from flows.gate import bench_of
    from pipeline import recipe as recipes
    from pipeline.adapters.mlflow import Registry
    from pipeline.log import Console

    settings = recipes.load(recipe)
    return bench_of(Registry(tracking()), recipe, settings, Console("gate"))


def _history(given: argparse.Namespace) -> int:
    from flows.history import history
    from pipeline.adapters.mlflow import Registry

    recipe, _ = _version(given.recipe)
    print(history(Registry(tracking()), recipe, DATA / recipe / "gate" / "history.png"))
    return 0


def _rollback(given: argparse.Namespace) -> int:
    from pipeline.adapters.mlflow import Registry
    from pipeline.promotion import registry as promotion

    recipe, _ = _version(given.recipe)
    entry = promotion.rollback(Registry(tracking()), recipe, given.reason)
    print(f"{recipe}/{entry.version} is the champion again, in place of {recipe}/{entry.previous}")
    return 0


def _explain(given: argparse.Namespace) -> int:
    from flows.explain import explain
    from pipeline.adapters.mlflow import Registry

    print(explain(Registry(tracking()), *_version(given.version)))
    return 0


def _report(given: argparse.Namespace) -> int:
    from pipeline.config import check_name
    from pipeline.report.page import write

    check_name(given.recipe)
    print(write(DATA / given.recipe, given.recipe))
    return 0


def _fsck(given: argparse.Namespace) -> int:
    from flows.upkeep import fsck

    return fsck(given.recipe)


def _gc(given: argparse.Namespace) -> int:
    from flows.upkeep import gc

    return gc(given.keep, given.budget, given.yes)


def _forget(given: argparse.Namespace) -> int:
    from flows.upkeep import forget

    return forget(given.recipe, given.ids, given.yes)


def _ui(given: argparse.Namespace) -> int:
    from pipeline.adapters.mlflow_client import shown

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((given.host, given.port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"{given.host}:{given.port}: cannot be listened on ({error}): try another --port"
            ) from None
    if "MLFLOW_TRACKING_URI" in os.environ and tracking().startswith("http"):
        raise UserError(f"MLFLOW_TRACKING_URI is a server already: open {shown(tracking())}")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    print(f"http://{given.host}:{given.port}  (ctrl-c ends it)", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking()]
    server += ["--host", given.host, "--port", str(given.port), "--workers", "1"]
    os.execv(sys.executable, server)


if __name__ == "__main__":
    sys.exit(main())
