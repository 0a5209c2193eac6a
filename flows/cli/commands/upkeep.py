"""Commands for maintenance: fsck, gc, forget and ui."""

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
            help="Check only this recipe.",
            show_default="everything",
            autocompletion=completion.recipes,
        ),
    ] = None,
) -> int:
    """Verify the hashes of all files and records, and list what is damaged."""
    from flows.cli.upkeep import fsck

    return fsck(recipe)


@group.command("bertline gc", "bertline gc --budget 2GB --yes")
def gc(
    keep: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of versions to keep besides champions.", parser=count
        ),
    ] = 3,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Delete only until the rest fits, such as 2GB."),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Show what may be deleted, and delete it with --yes; champions of the ledger stay."""
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
        typer.Option(metavar="FILE", help="Ids of rows.parquet, one per line.", parser=Path),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> int:
    """Remove a person's rows from the source and from all files made from it."""
    from flows.cli.upkeep import forget

    at_most_one(yes=yes, dry_run=dry_run)
    return forget(recipe, ids, yes)


@group.command("bertline ui", "bertline ui --port 5001")
def ui(
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST", help="Address to bind; anyone who reaches it may change everything."
        ),
    ] = "127.0.0.1",
    at_port: Annotated[int, typer.Option("--port", metavar="N", parser=port)] = 5000,
) -> None:
    """Serve MLflow's user interface, without a password."""
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
    address = page(f"http://{host}:{at_port}", "experiments")
    print(f"{address}  (ctrl-c ends it)", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking()]
    server += ["--host", host, "--port", str(at_port), "--workers", "1"]
    os.execv(sys.executable, server)
