"""Commands for recipes: recipes, add, new, check and migrate."""

from functools import partial
from typing import Annotated

import typer

from flows.cli import completion, terminal
from flows.cli.arguments import Recipe
from flows.cli.group import Group

group = Group("Recipes")


@group.command("bertline recipes", "bertline recipes imdb")
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Recipe whose block is shown.",
            show_default="a table of all",
            autocompletion=completion.gallery,
        ),
    ] = None,
) -> None:
    """List the gallery of ready recipes, or show one."""
    from flows.cli.recipes import listing, page

    print(page(name) if name else listing())


@group.command("bertline add imdb --data ~/imdb", "bertline add imdb --as films")
def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A recipe of the gallery (bertline recipes).",
            autocompletion=completion.gallery,
        ),
    ],
    other: Annotated[
        str | None,
        typer.Option("--as", metavar="OTHER", help="Its name in params.yaml.", show_default="NAME"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder of its data.", show_default="data/raw/NAME"),
    ] = None,
) -> None:
    """Add a recipe of the gallery to params.yaml."""
    from flows.cli.recipes import add_ready

    _added(add_ready(name, other, data))


NewName = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]",
        help="a-z, 0-9, - and _.",
        show_default="that of the file",
        parser=str,
    ),
]
NewFile = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", help="Rows, or a folder with a folder of texts per label.", parser=str
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help="Task (docs/TASKS.md).",
        show_default="by the label",
        autocompletion=completion.tasks,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column of the text.", show_default="found"),
]
Second = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of the second text of a pair.")
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the label; A,B for a column per class.",
        show_default="found",
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column whose rows stay together in one split."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Such as conll, squad, lines or label_studio (docs/TASKS.md).",
        show_default="found",
    ),
]
Header = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns of a file without a header.")
]
NoQuotes = Annotated[bool, typer.Option("--no-quotes", help="Read quotes as any other character.")]
Encoding = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Encoding of a text file.", show_default="found"),
]
Delimiter = Annotated[
    str | None,
    typer.Option(metavar="C", help="Between the fields of a table.", show_default="found"),
]
Separator = Annotated[
    str | None,
    typer.Option(metavar="C", help="Between the classes of a cell.", show_default="found"),
]
Offsets = Annotated[
    str | None,
    typer.Option(
        metavar="UNIT", help="Of positions in labels: characters, utf-16.", show_default="found"
    ),
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Names of numbered classes, one a line.", show_default="found"
    ),
]
Split = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column of train, validation, test.", show_default="found"),
]
Like = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE",
        help="Recipe whose other values are copied.",
        show_default="the task's defaults",
        autocompletion=completion.recipes,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Encoder to start from: a folder, package:NAME or hub:NAME@REVISION.",
        show_default="by the texts",
    ),
]


@group.command(
    "bertline new data/raw/reviews.csv",
    "bertline new reviews data/raw/reviews.csv --text review --label sentiment",
    "bertline new towns data/raw/towns.conll --task ner",
)
def new(
    name: NewName,
    file: NewFile = None,
    task: Task = None,
    text: Text = None,
    second: Second = None,
    label: Label = None,
    group: GroupColumn = None,
    format_: Format = None,
    header: Header = None,
    no_quotes: NoQuotes = False,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    separator: Separator = None,
    label_names: LabelNames = None,
    offsets: Offsets = None,
    split: Split = None,
    like: Like = None,
    base: Base = None,
) -> None:
    """Look at your own rows, propose a recipe for them, and add it to params.yaml."""
    from flows.cli.proposals.policies import take_base
    from flows.cli.proposals.proposal import name_for
    from flows.cli.recipes import add_own
    from pipeline.core.config import read_recipes
    from pipeline.core.log import Console

    if file is None:
        name, file = name_for(name, read_recipes()), name
    own = _own(
        label,
        text=text,
        second=second,
        group=group,
        format=format_,
        encoding=encoding,
        delimiter=delimiter,
        separator=separator,
        label_names=label_names,
        offsets=offsets,
        split=split,
        header=header.split(",") if header else None,
        quotes=False if no_quotes else None,
    )
    given = partial(take_base, model=base) if base else None
    print("\n".join(add_own(name, file, own, task, like, base=given, log=Console("new"))))
    _added(name)


@group.command(
    "bertline import models/reviews data/raw/reviews.csv",
    "bertline import hub:org/reviews@1f3c data/raw/reviews.csv --name films --label sentiment",
    name="import",
)
def import_(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder of transformers, or hub:NAME@REVISION."),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Rows to judge it by.", parser=str)],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the recipe.", show_default="that of the file"),
    ] = None,
    task: Task = None,
    text: Text = None,
    second: Second = None,
    label: Label = None,
    format_: Format = None,
    label_names: LabelNames = None,
    split: Split = None,
) -> None:
    """Add a recipe for a model that was trained elsewhere: it goes the line without training."""
    from flows.cli.proposals.policies import take_trained
    from flows.cli.proposals.proposal import name_for
    from flows.cli.recipes import add_own
    from pipeline.core.config import read_recipes
    from pipeline.core.log import Console

    name = name or name_for(file, read_recipes())
    own = _own(
        label,
        text=text,
        second=second,
        format=format_,
        label_names=label_names,
        split=split,
    )
    given = partial(take_trained, model=model)
    lines = add_own(name, file, own, task, None, base=given, log=Console("import"))
    print("\n".join(lines))
    _added(name)


def _own(label: str | None, **given: object) -> dict[str, object]:
    """Return the settings of ingest that options give; a label may name several columns."""
    names = label.split(",") if label and "," in label else label
    return {key: value for key, value in {"label": names, **given}.items() if value is not None}


def _added(name: str) -> None:
    from pipeline.core.config import PARAMS_FILE

    print(
        f"{PARAMS_FILE}: recipes.{name} is added; next: bertline check {name}, then bertline run"
        f" {name}"
    )


@group.command("bertline check news", "bertline check news --strict")
def check(
    recipe: Recipe,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with code 2 if the run would stop at validate.")
    ] = False,
) -> int:
    """Check a recipe, its data by all rules of validate, and its base; estimate what would run, its
    time and disk."""
    from flows.cli.preflight import outlook, stops
    from pipeline.core.log import Console

    facts = outlook(recipe, log=Console("check"))
    plain = [f"{name:<7}{fact}" for name, fact in facts]
    print("\n".join(terminal.facts(facts) if terminal.watched() else plain))
    return 2 if strict and stops(facts) else 0


@group.command("bertline migrate")
def migrate() -> None:
    """Rewrite the names of earlier versions in params.yaml."""
    from flows.cli.migrate import migrate
    from pipeline.core.config import PARAMS_FILE

    print("\n".join(migrate() or [f"{PARAMS_FILE}: all names are current"]))
