"""Commands for versions: promote, rollback, judge, history, explain, push and report."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli import completion, terminal
from flows.cli.arguments import Recipe, at_most_one, named_version
from flows.cli.group import Group
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.promotion.evidence import Bench
    from pipeline.registry.records import Event

group = Group("Versions")

Version = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        help="RECIPE/VERSION or RECIPE@champion",
        autocompletion=completion.recipes,
    ),
]


@group.command(
    "bertline promote news/3", 'bertline promote news/3 --override --reason "the old one is wrong"'
)
def promote(
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="RECIPE/VERSION, or RECIPE for its latest version.",
            autocompletion=completion.recipes,
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Reason for the ledger; an override needs one.", show_default=False
        ),
    ] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Promote whatever the gate says; needs --reason.")
    ] = False,
    rebaseline: Annotated[
        bool,
        typer.Option(
            "--rebaseline",
            help="After a change of labels: judge it alone on a new test set; needs --reason.",
        ),
    ] = False,
) -> int:
    """Ask the gate about a version, and promote it if the gate says so."""
    from flows import gate

    at_most_one(override=override, rebaseline=rebaseline)
    recipe, number = _registered(version)
    bench = _bench(recipe, number)
    bench.registry.version_tags(recipe, number)
    already = gate.in_use(bench, number)
    if already and (override or rebaseline or gate.was_judged(bench, number)):
        print(f"{recipe}/{number} is the champion already")
        return 0
    if override or rebaseline:
        event: Event = "override" if override else "rebaseline"
        verdict = gate.overrule(bench, event, number, reason)
        print(f"{recipe}/{number} is the champion by {event}; the gate: {verdict.reason}")
        return 0
    verdict, decided = gate.decide(bench, number, person=True, reason=reason)
    print(f"{verdict.decision}: {verdict.reason}")
    if decided == "promote":
        print(f"{recipe}/{number} is the champion")
    elif already:
        print(f"it stays in use; to return to its predecessor: bertline rollback {recipe}")
    return gate.EXIT[verdict.decision]


def _registered(version: str) -> tuple[str, str]:
    """Return the recipe and number of a version, or of a recipe's latest one."""
    from pipeline.core.workspace import tracking
    from pipeline.registry.versions import Registry

    recipe, number = named_version(version)
    if "@" in version:
        raise UserError(f"{version}: is the champion: name the version to promote")
    number = number or Registry(tracking()).last_version(recipe)
    if number is None:
        raise UserError(f"{recipe}: has no version yet: bertline run {recipe}")
    return recipe, number


def _bench(recipe: str, number: str) -> "Bench":
    """Return the bench of a version, on the rows of the worktree if a scheduled run made it."""
    from dataclasses import replace
    from pathlib import Path

    from flows.gate import bench_of
    from flows.worktree import TREES
    from pipeline import recipe as recipes
    from pipeline.core.log import Console
    from pipeline.core.records import Publication
    from pipeline.core.workspace import DATA, tracking
    from pipeline.registry.versions import Registry

    settings = recipes.load(recipe)
    bench = bench_of(Registry(tracking()), recipe, settings, Console("gate"))
    for home in (Path(), TREES / recipe):
        made = home / DATA / recipe / "publish" / "publication.json"
        if made.exists() and Publication.read(made).version == number:
            return replace(bench, validate=home / DATA / recipe / "validate")
    return bench


@group.command("bertline rollback news", 'bertline rollback news --reason "it answers film to all"')
def rollback(
    recipe: Recipe,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Reason for the ledger.")
    ] = "asked for",
) -> None:
    """Return to the champion before the current one, or restore one whose alias is gone."""
    from pipeline.core.config import check_name
    from pipeline.core.workspace import tracking
    from pipeline.promotion import champion
    from pipeline.registry.versions import Registry

    check_name(recipe)
    entry = champion.rollback(Registry(tracking()), recipe, reason)
    place = f"in place of {recipe}/{entry.previous}" if entry.previous else "its alias was gone"
    print(f"{recipe}/{entry.version} is the champion again, {place}")


@group.command("bertline judge news/3", "bertline judge news@champion --json")
def judge(
    version: Version,
    as_json: Annotated[bool, typer.Option("--json", help="The whole verdict as JSON.")] = False,
) -> int:
    """Show the gate's verdict on a version in full; nothing is promoted or recorded."""
    from flows import gate
    from pipeline.core.workspace import tracking
    from pipeline.promotion.champion import champion_of, no_champion
    from pipeline.promotion.evidence import ask
    from pipeline.registry.versions import Registry

    recipe, number = named_version(version)
    registry = Registry(tracking())
    number = number or champion_of(registry, recipe)
    if number is None:
        raise UserError(no_champion(registry, recipe, "name a version, or "))
    verdict = ask(_bench(recipe, number), number, keep=False)
    whole = verdict.model_dump(mode="json")
    print(terminal.as_json(whole, indent=2) if as_json else gate.page(verdict))
    return gate.EXIT[verdict.decision]


@group.command("bertline history news")
def history(recipe: Recipe) -> None:
    """Show past champions and rejected versions, as a table and a picture."""
    from flows.cli.history import history
    from pipeline.core.config import check_name
    from pipeline.core.workspace import DATA, tracking
    from pipeline.registry.versions import Registry

    check_name(recipe)
    picture = DATA / recipe / "gate" / "history.png"
    print(history(Registry(tracking()), recipe, picture))


@group.command("bertline explain news@champion", "bertline explain news/3")
def explain(version: Version) -> None:
    """Show a version's lineage, scores and times of use."""
    from flows.cli.explain import explain
    from pipeline.core.workspace import tracking
    from pipeline.registry.versions import Registry

    print(explain(Registry(tracking()), *named_version(version)))


@group.command(
    "bertline push news@champion hub:ORG/news --licence apache-2.0",
    "bertline push news/3 news-3 --licence mit --format pytorch",
)
def push(
    version: Version,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="hub:ORG/NAME, or a new folder.")],
    licence: Annotated[
        str,
        typer.Option(
            "--licence", "--license", metavar="ID", help="Licence for its card, such as apache-2.0."
        ),
    ],
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME", help="Base on the hub.", show_default="by the version's records"
        ),
    ] = None,
    layout: Annotated[
        Literal["onnx", "pytorch"],
        typer.Option("--format", help="The judged ONNX model, or the weights it was made of."),
    ] = "onnx",
    private: Annotated[
        bool, typer.Option("--private", help="A new repository is private.")
    ] = False,
) -> None:
    """Push a version with its card to the model hub; the token comes from HF_TOKEN."""
    from flows.cli.push import Push, push
    from pipeline.core.workspace import tracking
    from pipeline.registry.versions import Registry

    registry = Registry(tracking())
    recipe, number = named_version(version)
    number = number or registry.champion(recipe)
    if number is None:
        raise UserError(f"{recipe}: has no champion: name a version, {recipe}/1")
    pushed = Push(recipe, number, licence, base_model, layout)
    print(push(registry, pushed, target, private))


@group.command("bertline report news")
def report(recipe: Recipe) -> None:
    """Write the report of a run again, one HTML file from the records in its folder."""
    from pipeline.core.config import check_name
    from pipeline.core.workspace import DATA
    from pipeline.report.page import write

    check_name(recipe)
    print(write(DATA / recipe, recipe))
