"""Commands that train: run, retrain, schedule, work and take."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows import environment
from flows.cli import completion
from flows.cli.arguments import Recipe, at_most_one, hours, named_version
from flows.cli.group import Group
from pipeline.core.errors import UserError

group = Group("Training")


@group.command("bertline run news", "bertline run news --no-wait")
def run(
    recipe: Recipe,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail if another run is in progress.")
    ] = False,
    stage_timeout: Annotated[
        float, typer.Option(metavar="HOURS", help="Time limit of each stage.", parser=hours)
    ] = 24.0,
) -> None:
    """Run the stages that are out of date, and ask the gate."""
    from pipeline.core.config import check_name

    check_name(recipe)  # before Prefect's server starts
    from flows.line import line
    from flows.summary import summary
    from pipeline.core.workspace import DATA, tracking
    from pipeline.promotion.champion import champion_of
    from pipeline.registry.client import shown
    from pipeline.registry.versions import Registry

    with _prefect():
        line(recipe, wait=not no_wait, stage_timeout=stage_timeout * 3600)
    champion = champion_of(Registry(tracking()), recipe)
    print(summary(recipe, DATA / recipe, shown(tracking()), champion))


@contextmanager
def _prefect() -> Iterator[None]:
    """Raise UserError if the Prefect server does not answer or denies access."""
    import httpx

    from flows.line import server

    if not (remote := server()):
        environment.check_prefect_home()
    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise UserError(
            f"HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: {error}: correct it, or unset it"
        ) from None
    try:
        yield
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise UserError(
            "Prefect: the server of PREFECT_API_URL denies access: PREFECT_API_AUTH_STRING is"
            " missing or of another server"
        ) from None
    except RuntimeError as error:
        if " API" not in str(error):
            raise
        remedy = (
            "start the server of PREFECT_API_URL, or unset it"
            if remote
            else f"its temporary server on this machine did not start: its files are in"
            f" {environment.prefect_home()}"
        )
        raise UserError(f"Prefect: {str(error).splitlines()[0]}: {remedy}") from None


@group.command("bertline retrain news", "bertline retrain news --ref main --force")
def retrain(
    recipe: Recipe,
    ref: Annotated[
        str, typer.Option(metavar="REF", help="Commit or branch whose code is run.")
    ] = "HEAD",
    force: Annotated[bool, typer.Option("--force", help="Train even if nothing is new.")] = False,
) -> None:
    """Train a recipe again if that is worth it, in a git worktree of its own."""
    from pipeline.core.config import check_name

    check_name(recipe)
    from flows.retrain import retrain

    with _prefect():
        state = retrain(recipe, ref, force, return_state=True)
    if not state.is_completed():
        error = state.result(raise_on_failure=False)
        raise error if isinstance(error, UserError) else UserError(str(state.message))
    print(state.message)


@group.command("bertline schedule", "bertline schedule --pool machines")
def schedule(
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="POOL", help="A Prefect work pool that runs them.", show_default="bertline work"
        ),
    ] = None,
) -> None:
    """Create or update a Prefect deployment for each recipe that has a schedule."""
    from flows.deployments import PREFECT_FILE, schedule, write_prefect_yaml
    from pipeline.core.config import PARAMS_FILE

    if write_prefect_yaml():
        print(f"{PREFECT_FILE}: written from {PARAMS_FILE}")
    with _prefect():
        print("\n".join(schedule(pool)))
    if pool:
        print(f"next: prefect worker start --pool {pool}")
    else:
        print("next: bertline work, in this folder, and leave it running")


@group.command("bertline work")
def work() -> None:
    """Run scheduled retrainings until stopped."""
    from flows.deployments import work

    with _prefect():
        work()


@group.command("bertline take news/4", "bertline take news/4 --patch news-4.patch")
def take(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="RECIPE/VERSION", autocompletion=completion.recipes),
    ],
    branch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the branch.", show_default="bertline/RECIPE-VERSION"
        ),
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A patch instead of a branch.", parser=Path),
    ] = None,
) -> None:
    """Get the dvc.lock of a version that a scheduled run made, as a branch or a patch."""
    from flows.worktree import take

    at_most_one(branch=branch, patch=patch)
    recipe, number = named_version(version)
    if number is None:
        raise UserError(f"{version}: write RECIPE/VERSION, such as {recipe}/1")
    print(take(Path.cwd(), recipe, number, branch, patch))
