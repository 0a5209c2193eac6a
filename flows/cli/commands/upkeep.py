"""The folder: is it sound, what may go, whom to forget, and MLflow's pages of it."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import completion
from flows.cli.arguments import DryRun, Recipe, Yes, at_most_one, count, port
from flows.cli.group import Group
from pipeline.core.errors import UserError

group = Group("Upkeep")


@group.command("bertline fsck", "bertline fsck news")
def fsck(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Only what belongs to it.",
            show_default="everything",
            autocompletion=completion.recipes,
        ),
    ] = None,
) -> int:
    """Hash again all that bertline stands on, and name what is damaged."""
    from flows.cli.upkeep import fsck

    return fsck(recipe)


@group.command("bertline gc", "bertline gc --budget 2GB --yes")
def gc(
    keep: Annotated[
        int, typer.Option(metavar="N", help="Versions besides champions.", parser=count)
    ] = 3,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Versions go only until the rest fits, such as 2GB."),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Say what may go, and delete it with --yes; nothing that the ledger can return to."""
    from flows.cli.upkeep import gc

    at_most_one(yes=yes, dry_run=dry_run)
    return gc(keep, budget, yes)


@group.command(
    "bertline forget reviews --ids ids.txt", "bertline forget reviews --ids ids.txt --yes"
)
def forget(
    recipe: Recipe,
    ids: Annotated[
        Path,
        typer.Option(metavar="FILE", help="A row's id a line, of rows.parquet.", parser=Path),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Take a person's rows out of the source and of all that was made of it."""
    from flows.cli.upkeep import forget

    at_most_one(yes=yes, dry_run=dry_run)
    return forget(recipe, ids, yes)


@group.command("bertline ui", "bertline ui --port 5001")
def ui(
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Who reaches it may change all.")
    ] = "127.0.0.1",
    at_port: Annotated[int, typer.Option("--port", metavar="N", parser=port)] = 5000,
) -> None:
    """MLflow's pages, with no password."""
    from pipeline.core.workspace import tracking
    from pipeline.registry.client import page, shown

    if "MLFLOW_TRACKING_URI" in os.environ and tracking().startswith("http"):
        raise UserError(f"MLFLOW_TRACKING_URI is a server already: open {shown(tracking())}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, at_port))
        except OSError as error:
            raise UserError(
                f"{host}:{at_port}: cannot be listened on ({error}): try another --port"
            ) from None
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    told = page(f"http://{host}:{at_port}", "experiments")
    print(f"{told}  (ctrl-c ends it)", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking()]
    server += ["--host", host, "--port", str(at_port), "--workers", "1"]
    os.execv(sys.executable, server)
