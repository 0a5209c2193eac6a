"""Declaration of commands by a decorator; the docstring of the function is the command's help.

    group = Group("Recipes")

    @group.command("bertline check news")
    def check(recipe: Recipe) -> None: ...

A command imports what it needs only when it is called. Its return value is the exit code.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

F = TypeVar("F", bound=Callable[..., Any])


class Examples:
    """Mixin that prints the examples without reflowing them if the output is no terminal."""

    epilog: str | None

    def format_epilog(self, _: Any, formatter: Any) -> None:
        formatter.write(f"\n{self.epilog}\n")


class Command(Examples, TyperCommand):
    """Command that refuses an option as the value of another option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            self._refuse_swallowed(ctx, args)
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            if not getattr(error, "possibilities", True) and any(
                p.nargs == -1 for p in self.params
            ):
                error.message += "; put a text that begins with a dash behind --"
            vars(error).update(ctx=ctx)  # some errors have none, and so no command's name
            raise

    def _refuse_swallowed(self, ctx: Any, args: list[str]) -> None:
        options = [param for param in self.get_params(ctx) if param.param_type_name == "option"]
        names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        valued = {name for option in options if not option.is_flag for name in option.opts}
        end = args.index("--") if "--" in args else len(args)
        for word, value in pairwise(args[:end]):
            if word in valued and value.partition("=")[0] in names and not ctx.resilient_parsing:
                message = f"{value} is an option: write {word}={value} if it is the value"
                raise typer.BadParameter(message, ctx, param_hint=[word])

    def get_params(self, ctx: Any) -> Any:
        return _untyped(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Commands(Examples, TyperGroup):
    """Group of all commands, with panels in plain help too."""

    def get_params(self, ctx: Any) -> Any:
        return _untyped(super().get_params(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        wide = max(map(len, self.commands))
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = str(getattr(command, "rich_help_panel", ""))
            panels.setdefault(panel, []).append((name.ljust(wide), command.help or ""))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


def _untyped(params: Any) -> Any:
    """Hide the types <str> and <bool> of arguments and flags in the help."""
    for param in params:
        if param.param_type_name == "argument" or param.is_flag:
            param.display_type_rich = _nothing
    return params


def _nothing(ctx: Any) -> None:
    """Return no name of a type."""


class Group:
    """Commands of one panel of the help."""

    def __init__(self, panel: str) -> None:
        self.panel = panel
        self.app = typer.Typer()

    def command(self, *examples: str, name: str | None = None) -> Callable[[F], F]:
        """Declare a function as a command; `examples` are calls of it, shown in the help. `name` is
        its name if that is a word of Python."""
        head = "example" if len(examples) == 1 else "examples"
        shown = "\n  ".join([f"{head}:", *examples])
        return self.app.command(name, cls=Command, rich_help_panel=self.panel, epilog=shown)
