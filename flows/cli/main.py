"""The arguments of the command `bertline`; flows/cli/commands.py has what is done."""

import argparse
import os
import sys
from pathlib import Path

from flows.cli import commands
from pipeline.core.errors import UserError

EXAMPLES = """examples:
  bertline recipes
  bertline add imdb --data ~/imdb
  bertline new reviews reviews.csv --text review --label sentiment
  bertline check reviews
  bertline run reviews
  bertline predict reviews "I would buy it again"
  bertline embed reviews.csv --text review --out reviews.parquet
  bertline search faq.csv --text question "my card has not come"
  bertline serve reviews
  bertline explain reviews@champion
  bertline labels reviews
  bertline history reviews
  bertline rollback reviews
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit code; what a person can mend is told in one line."""
    given = _parsed(arguments)
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


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """As the parser does, and queries may stand behind options, too: argparse takes such for
    unknown (https://github.com/python/cpython/issues/59317)."""
    parser = _parser()
    given, more = parser.parse_known_args(arguments)
    end = more.index("--") if "--" in more else len(more)  # behind it a query may begin with a dash
    if any(word.startswith("-") for word in more[:end]) or (more and "queries" not in given):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        given.queries += more[:end] + more[end + 1 :]
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bertline",
        description="From labelled text to a promoted, quantized encoder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: object, about: str, example: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(action=action)
        return added

    run = command(
        "run", commands.run, "Bring a recipe up to date and ask the gate.", "bertline run news"
    )
    run.add_argument("recipe", help="a block of params.yaml")
    run.add_argument("--no-wait", action="store_true", help="refuse where another line is running")
    run.add_argument(
        "--stage-timeout", type=_hours, default=24.0, metavar="HOURS", help="of each stage (24)"
    )

    retrain = command(
        "retrain",
        commands.retrain,
        "Decide whether a recipe is worth training again, and do it, in a worktree of its own.",
        "bertline retrain news",
    )
    retrain.add_argument("recipe")
    retrain.add_argument("--ref", default="HEAD", help="commit or branch to work on (HEAD)")
    retrain.add_argument("--force", action="store_true", help="also where nothing is new")

    schedule = command(
        "schedule",
        commands.schedule,
        "Create or update a Prefect deployment for each recipe that has a schedule.",
        "bertline schedule",
    )
    schedule.add_argument("--pool", help="a Prefect work pool that runs them (bertline work does)")

    command("work", commands.work, "Run what is scheduled, until it is ended.", "bertline work")

    take = command(
        "take",
        commands.take,
        "Take over the lock of a version that a scheduled run made, as a branch or a patch.",
        "bertline take news/4 --patch news-4.patch",
    )
    take.add_argument("version", help="RECIPE/VERSION")
    how = take.add_mutually_exclusive_group()
    how.add_argument("--branch", help="its name (bertline/RECIPE-VERSION)")
    how.add_argument("--patch", type=Path, metavar="FILE", help="a patch instead of a branch")

    recipes = command(
        "recipes", commands.recipes, "The gallery of ready recipes.", "bertline recipes imdb"
    )
    recipes.add_argument("name", nargs="?", help="show its whole block (a table of all)")

    add = command(
        "add",
        commands.add,
        "Add a recipe of the gallery to params.yaml.",
        "bertline add imdb --data ~/imdb",
    )
    add.add_argument("name", help="of bertline recipes")
    add.add_argument("--as", dest="other", metavar="OTHER", help="its name in params.yaml (NAME)")
    add.add_argument("--data", metavar="FOLDER", help="where its data is (data/raw/NAME)")

    new = command(
        "new",
        commands.new,
        "Add a recipe for your own rows to params.yaml.",
        "bertline new reviews data/raw/reviews.csv --text review --label sentiment",
    )
    new.add_argument("name", help="a-z, 0-9, - and _")
    new.add_argument("file", help="a file of rows, or a folder of a folder of text files a label")
    new.add_argument("--task", help="what is asked of each row: docs/TASKS.md (classification)")
    new.add_argument("--text", default="text", help="column of the text (text)")
    new.add_argument("--second", metavar="TEXT", help="column of the second text, of two")
    new.add_argument("--label", default="label", help="column of the label (label)")
    new.add_argument("--group", help="column whose rows stay together in one split")
    new.add_argument(
        "--format", help="conll, squad, word_tags or lines; others go by their extension"
    )
    new.add_argument("--header", metavar="A,B", help="columns of a file that does not name them")
    new.add_argument("--no-quotes", action="store_true", help="a quote is a character like others")
    new.add_argument("--like", help="recipe whose other values are copied (the task's defaults)")

    check = command(
        "check",
        commands.check,
        "Parse a recipe, open its data and base, say what would run, how long and how large.",
        "bertline check news",
    )
    check.add_argument("recipe")

    predict = command(
        "predict",
        commands.predict,
        "Answer texts by the champion, through ONNX Runtime.",
        'bertline predict news "Shares fell" "A late goal"; cat texts | bertline predict news -',
    )
    predict.add_argument("recipe")
    predict.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT",
        help="texts (two by two, where it reads pairs), or - for standard input",
    )
    predict.add_argument(
        "--file",
        type=Path,
        help="one text a line; of pairs, two with a tab between them or JSON: text, second",
    )
    predict.add_argument("--json", action="store_true", help="the whole answer, a line a text")

    embed = command(
        "embed",
        commands.embed,
        "Embed the texts of a file: a vector a row, by an encoder's own layers.",
        "bertline embed reviews.csv --text review --out reviews.parquet",
    )
    embed.add_argument("file", help="rows: CSV, TSV, JSON Lines, Parquet, .txt with a text a line")
    embed.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="ends in .parquet or .npy"
    )
    embed.add_argument("--id", metavar="COLUMN", help="that names a row (its line in the file)")
    embed.add_argument("--label", metavar="COLUMN", help="to keep as label")
    embed.add_argument("--carry", metavar="A,B", help="more columns to keep")
    embed.add_argument(
        "--level", choices=("text", "token"), default="text", help="what a row is (text)"
    )
    embed.add_argument(
        "--centroids", action="store_true", help="a row a label: the mean over its texts"
    )
    _with_encoder(embed)

    search = command(
        "search",
        commands.search,
        "The rows of a file that are nearest to a query, by the cosine of their embeddings.",
        'bertline search faq.csv --text question --show answer "my card has not come"',
    )
    search.add_argument("answers", help="a file of rows, or what bertline embed has written")
    search.add_argument(
        "queries", nargs="*", metavar="QUERY", help="(a line of standard input each)"
    )
    search.add_argument("-k", type=_count, default=5, help="rows to each query (5)")
    search.add_argument("--show", metavar="A,B", help="columns to show besides the text")
    search.add_argument("--json", action="store_true", help="a line of JSON a query")
    _with_encoder(search)

    serve = command(
        "serve",
        commands.serve,
        "Serve the champion over HTTP, and every champion that follows it, until it is ended.",
        "bertline serve news --port 8080",
    )
    serve.add_argument("recipe")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="another than this machine's own needs BERTLINE_API_KEYS (127.0.0.1)",
    )
    serve.add_argument("--port", type=_port, default=8000, help="0 takes a free one (8000)")
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="by which a proxy on this machine asks, besides localhost; may be given again",
    )
    serve.add_argument(
        "--every", type=_seconds, default=2.0, metavar="SECONDS", help="looks at the alias (2)"
    )
    serve.add_argument(
        "--cores", type=_count, default=0, metavar="N", help="to answer on (all there are)"
    )
    serve.add_argument(
        "--deadline", type=_seconds, default=10.0, metavar="SECONDS", help="of a request (10)"
    )

    labels = command(
        "labels",
        commands.labels,
        "Take what people said of answers into the recipe's rows, the least sure first.",
        "bertline labels news --most 100",
    )
    labels.add_argument("recipe")
    labels.add_argument(
        "--most", type=_count, default=200, metavar="N", help="texts to take at once (200)"
    )
    labels.add_argument(
        "--feedback",
        type=Path,
        default=Path("data/feedback"),
        metavar="FOLDER",
        help="where RECIPE.jsonl lies (data/feedback)",
    )
    labels.add_argument("--dry-run", action="store_true", help="only say what would be taken")

    promote = command(
        "promote",
        commands.promote,
        "Ask the gate about a version; make it the champion when it says so.",
        "bertline promote news/3",
    )
    promote.add_argument("version", help="RECIPE/VERSION, or RECIPE for the one registered last")
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
        "rollback",
        commands.rollback,
        "Put the champion's predecessor back.",
        "bertline rollback news",
    )
    rollback.add_argument("recipe")
    rollback.add_argument("--reason", default="asked for", help="kept in the ledger")

    judge = command(
        "judge",
        commands.judge,
        "What the gate says of a version, in full; nothing is moved or written down.",
        "bertline judge news/3",
    )
    judge.add_argument("version", help="RECIPE/VERSION or RECIPE@champion")
    judge.add_argument("--json", action="store_true", help="the whole verdict as JSON")

    history = command(
        "history",
        commands.history,
        "What was in use when, and what the gate refused, as a table and a picture.",
        "bertline history news",
    )
    history.add_argument("recipe")

    explain = command(
        "explain",
        commands.explain,
        "Where a version comes from, how good it is, and when it was in use.",
        "bertline explain news@champion",
    )
    explain.add_argument("version", help="RECIPE/VERSION or RECIPE@champion")

    report = command(
        "report",
        commands.report,
        "Write a run's report again: one HTML file, from the records in its folder.",
        "bertline report news",
    )
    report.add_argument("recipe")

    fsck = command(
        "fsck",
        commands.fsck,
        "Hash again all that bertline stands on, and name what is damaged.",
        "bertline fsck news",
    )
    fsck.add_argument("recipe", nargs="?", help="only what belongs to it (everything)")

    gc = command(
        "gc",
        commands.gc,
        "Say what may go, and delete it with --yes; nothing that the ledger can return to.",
        "bertline gc --budget 2GB --yes",
    )
    gc.add_argument(
        "--keep", type=_count, default=3, metavar="N", help="versions besides champions (3)"
    )
    gc.add_argument("--budget", metavar="SIZE", help="versions go only until the rest fits: 2GB")
    _with_yes(gc)

    forget = command(
        "forget",
        commands.forget,
        "Take a person's rows out of the source and of all that was made of it.",
        "bertline forget reviews --ids ids.txt --yes",
    )
    forget.add_argument("recipe")
    forget.add_argument(
        "--ids", type=Path, required=True, metavar="FILE", help="a row's id a line, of rows.parquet"
    )
    _with_yes(forget)

    ui = command("ui", commands.ui, "MLflow's pages, with no password.", "bertline ui --port 5001")
    ui.add_argument("--host", default="127.0.0.1", help="who reaches it may change all (127.0.0.1)")
    ui.add_argument("--port", type=int, default=5000, help="(5000)")
    return parser


def _with_yes(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--yes", action="store_true", help="do it")
    how.add_argument("--dry-run", action="store_true", help="only say it, as without --yes")


def _with_encoder(parser: argparse.ArgumentParser) -> None:
    """Options of embeddings: which rows, by which encoder, and how. None is the default."""
    add = parser.add_argument
    add("--text", metavar="COLUMN", help="column of the text (text)")
    add("--format", help="conll, word_tags, lines or documents; others go by their extension")
    add("--no-quotes", action="store_true", default=None, help="as ingest.quotes: false")
    add(
        "--model",
        help="package:NAME/FOLDER, hub:NAME@REVISION, a folder, or a recipe that was run"
        " (the demo's base, all-MiniLM-L6-v2)",
    )
    add("--max-length", type=_count, metavar="TOKENS", help="(as the model was trained)")
    add("--layers", help="-1 (the last), 0 (embeddings of words), a mean: 1,2 or --layers=-4: (-1)")
    add(
        "--pooling",
        choices=("own", "cls", "mean", "max"),
        help="of a text's tokens (own: as the model was trained)",
    )
    add("--normalize", action=argparse.BooleanOptionalAction, help="to length 1 (yes)")
    add(
        "--runtime",
        choices=("pytorch", "onnx-fp32", "onnx-int8"),
        help="(onnx-fp32; pytorch with a GPU)",
    )


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    return _between(text, 0.05, 86400, "seconds")


def _hours(text: str) -> float:
    return _between(text, 0.01, 8760, "hours")


def _between(text: str, least: float, most: float, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of {unit}: {least} to {most}")
    return number
