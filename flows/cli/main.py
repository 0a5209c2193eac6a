"""Entry point of the command `bertline`: its groups of commands and its exit codes."""

import os
import sys

import typer
from typer.main import get_command

from flows import environment
from flows.cli import inputs, terminal
from flows.cli.commands import answers, lines, recipes, upkeep, versions
from flows.cli.group import Commands
from pipeline.core.errors import UserError

NAME = "bertline"
GROUPS = (recipes, lines, answers, versions, upkeep)
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
  bertline rollback reviews"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; a UserError is printed as one line."""
    environment.prepare()
    terminal.prepare()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = _run(given)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _refused(error)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except UnicodeEncodeError:
        if (strange := next((word for word in given if not inputs.is_utf8(word)), None)) is None:
            raise
        print(f"error: {UserError(f'the argument {strange!r} is not UTF-8')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _run(arguments: list[str]) -> int:
    command = get_command(_app())
    if f"_{NAME.upper()}_COMPLETE" in os.environ:  # typer prints completions and exits
        command.main([], prog_name=NAME)
    try:
        with command.make_context(NAME, list(arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as ended:  # --help
        return ended.exit_code


def _app() -> typer.Typer:
    """Return the app with all commands; its help has panels and colours on a terminal."""
    app = typer.Typer(
        cls=Commands,
        help="From labelled text to a promoted, quantized encoder.",
        epilog=EXAMPLES,
        rich_markup_mode="rich" if terminal.watched() else None,
    )
    for module in GROUPS:
        app.add_typer(module.group.app)
    return app


def _refused(error: typer.TyperException) -> int:
    """Print what is wrong with the arguments. Returns the exit code."""
    message = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    print(f"error: {message[:1].lower()}{message[1:]}", file=sys.stderr)
    context = getattr(error, "ctx", None)
    print(f"Try '{context.command_path if context else NAME} --help'", file=sys.stderr)
    return error.exit_code
