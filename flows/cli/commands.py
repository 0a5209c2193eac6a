"""What each subcommand does. It imports what it needs when it is called, and no earlier."""

import argparse
import gc as collector
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.config import PARAMS_FILE
from pipeline.core.errors import UserError
from pipeline.core.workspace import DATA, tracking

if TYPE_CHECKING:
    from pipeline.promotion.evidence import Bench
    from pipeline.registry.records import Event


def run(given: argparse.Namespace) -> int:
    from flows.line import line
    from flows.summary import summary
    from pipeline.promotion.champion import champion_of
    from pipeline.registry.client import shown
    from pipeline.registry.versions import Registry

    with _prefect():
        line(given.recipe, wait=not given.no_wait, stage_timeout=given.stage_timeout * 3600)
    champion = champion_of(Registry(tracking()), given.recipe)
    print(summary(given.recipe, DATA / given.recipe, shown(tracking()), champion))
    return 0


@contextmanager
def _prefect() -> Iterator[None]:
    """A server of Prefect's that does not answer, or lets nobody in, is told in one line."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise UserError(
            "Prefect: the server that PREFECT_API_URL names lets nobody in without its password:"
            " PREFECT_API_AUTH_STRING is missing or of another server"
        ) from None
    except RuntimeError as error:
        if " API" not in str(error):
            raise
        raise UserError(
            f"Prefect: {str(error).splitlines()[0]}: start the server that PREFECT_API_URL names,"
            " or unset it"
        ) from None


def retrain(given: argparse.Namespace) -> int:
    from flows.retrain import retrain

    with _prefect():
        state = retrain(given.recipe, given.ref, given.force, return_state=True)
    if not state.is_completed():
        error = state.result(raise_on_failure=False)
        raise error if isinstance(error, UserError) else UserError(str(state.message))
    print(state.message)
    return 0


def schedule(given: argparse.Namespace) -> int:
    from flows.deployments import PREFECT_FILE, schedule, write_prefect_yaml

    if write_prefect_yaml():
        print(f"{PREFECT_FILE}: written, to say what {PARAMS_FILE} says")
    with _prefect():
        print("\n".join(schedule(given.pool)))
    if given.pool:
        print(f"next: prefect worker start --pool {given.pool}")
    else:
        print("next: bertline work, in this folder, and leave it running")
    return 0


def work(_: argparse.Namespace) -> int:
    from flows.deployments import work

    with _prefect():
        work()
    return 0


def take(given: argparse.Namespace) -> int:
    from flows.worktree import take

    recipe, number = _version(given.version)
    if number is None:
        raise UserError(f"{given.version}: write RECIPE/VERSION, such as {recipe}/1")
    print(take(Path.cwd(), recipe, number, given.branch, given.patch))
    return 0


def recipes(given: argparse.Namespace) -> int:
    from flows.cli.recipes import listing, page

    print(page(given.name) if given.name else listing())
    return 0


def add(given: argparse.Namespace) -> int:
    from flows.cli.recipes import add_ready

    _added(add_ready(given.name, given.other, given.data))
    return 0


def new(given: argparse.Namespace) -> int:
    from flows.cli.recipes import add_own

    ingest = {name: getattr(given, name) for name in ("text", "second", "label", "group", "format")}
    ingest["header"] = given.header.split(",") if given.header else None
    ingest["quotes"] = not given.no_quotes
    add_own(given.name, given.file, ingest, given.task, given.like)
    _added(given.name)
    return 0


def _added(name: str) -> None:
    print(f"{PARAMS_FILE}: recipes.{name} is added; next: bertline check {name}")


def check(given: argparse.Namespace) -> int:
    from flows.cli.preflight import outlook
    from pipeline.core.log import Console

    print(outlook(given.recipe, log=Console("check")))
    return 0


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from collecting what imports have made, then and at exit: it is all in use, and
    looking it through takes a quarter of a short command's time."""
    collector.disable()
    try:
        yield
    finally:
        collector.freeze()
        collector.enable()


@_uncollected()
def predict(given: argparse.Namespace) -> int:
    from flows.cli import inputs
    from pipeline.core.config import check_name

    check_name(given.recipe)
    said = inputs.said(given.texts, given.file)
    from pipeline.core.text import excerpt
    from pipeline.registry.versions import Registry, inputs_of, takes_pairs

    registry = Registry(tracking())
    number = registry.champion(given.recipe)
    if number is None:
        raise UserError(f"{given.recipe}: has no champion yet: bertline run {given.recipe}")
    loaded = registry.load(given.recipe, number)
    pairs = takes_pairs(loaded)
    texts = inputs.pairs(given.recipe, *said) if pairs else [(text, "") for text in said[1]]
    answers = loaded.predict(inputs_of(loaded, texts)).to_dict("records")
    for (text, second), answer in zip(texts, answers, strict=True):
        if given.json:
            own = {"text": text, "second": second} if pairs else {"text": text}
            told = own | answer | {"version": f"{given.recipe}/{number}"}
            print(json.dumps(told, ensure_ascii=False))
        else:
            label = excerpt(_shown(loaded, answer["label"], text, second), 200)
            asked_of = excerpt(" | ".join(filter(None, (text, second))), 60)
            print(f"{label}\t{answer['score']:.3f}\t{asked_of}")
    return 0


def _shown(loaded: Any, label: str, text: str, second: str) -> str:
    """A label as people read it, in the words of the version's own task; the oldest have none."""
    answering = getattr(loaded.unwrap_python_model(), "answering", None)
    return str(answering.task.shown(label, text, second)) if answering else label


def embed(given: argparse.Namespace) -> int:
    from flows.cli.embeddings import embed

    print(embed(given))
    return 0


def search(given: argparse.Namespace) -> int:
    from flows.cli.embeddings import search

    for told in search(given):
        print(told, flush=True)
    return 0


def _version(name: str) -> tuple[str, str | None]:
    """RECIPE/VERSION, RECIPE@champion or RECIPE, as recipe and version."""
    from pipeline.core.config import check_name

    recipe, _, number = name.replace("@champion", "").partition("/")
    check_name(recipe)
    if number and not number.isdigit():
        raise UserError(f"{name}: write RECIPE/VERSION, such as {recipe}/1")
    return recipe, number or None


def serve(given: argparse.Namespace) -> int:
    from pipeline.core.workspace import STATE
    from pipeline.serving.settings import Limits
    from pipeline.serving.supervisor import ServerOptions, serve

    serve(
        ServerOptions(
            recipe=given.recipe,
            tracking=tracking(),
            state=STATE / "serving" / f"{given.recipe}.json",
            feedback=DATA / "feedback",
            host=given.host,
            port=given.port,
            every=given.every,
            cores=given.cores,
            limits=Limits(deadline=given.deadline),
            hosts=given.allow_host,
        )
    )
    return 0


def labels(given: argparse.Namespace) -> int:
    from flows.cli.labels import labels

    labels(given.recipe, given.most, given.feedback, dry=given.dry_run)
    return 0


def promote(given: argparse.Namespace) -> int:
    from flows import gate
    from pipeline.registry.versions import Registry

    recipe, number = _version(given.version)
    if "@" in given.version:
        raise UserError(f"{given.version}: is the champion: name the version that should be")
    number = number or Registry(tracking()).last_version(recipe)
    if number is None:
        raise UserError(f"{recipe}: has no version yet: bertline run {recipe}")
    bench = _bench(recipe, number)
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


def judge(given: argparse.Namespace) -> int:
    from flows import gate
    from pipeline.promotion.champion import champion_of
    from pipeline.promotion.evidence import ask
    from pipeline.registry.versions import Registry

    recipe, number = _version(given.version)
    number = number or champion_of(Registry(tracking()), recipe)
    if number is None:
        raise UserError(f"{recipe}: has no champion yet: name a version, or bertline run {recipe}")
    verdict = ask(_bench(recipe, number), number, keep=False)
    print(verdict.model_dump_json(indent=2) if given.json else gate.page(verdict))
    return gate.EXIT[verdict.decision]


def _bench(recipe: str, number: str) -> "Bench":
    """Where a version is judged: on the rows of a scheduled run, where that made it."""
    from dataclasses import replace

    from flows.gate import bench_of
    from flows.worktree import TREES
    from pipeline import recipe as recipes
    from pipeline.core.log import Console
    from pipeline.core.records import Publication
    from pipeline.registry.versions import Registry

    settings = recipes.load(recipe)
    bench = bench_of(Registry(tracking()), recipe, settings, Console("gate"))
    for home in (Path(), TREES / recipe):
        made = home / DATA / recipe / "publish" / "publication.json"
        if made.exists() and Publication.read(made).version == number:
            return replace(bench, validate=home / DATA / recipe / "validate")
    return bench


def history(given: argparse.Namespace) -> int:
    from flows.cli.history import history
    from pipeline.core.config import check_name
    from pipeline.registry.versions import Registry

    check_name(given.recipe)
    picture = DATA / given.recipe / "gate" / "history.png"
    print(history(Registry(tracking()), given.recipe, picture))
    return 0


def rollback(given: argparse.Namespace) -> int:
    from pipeline.core.config import check_name
    from pipeline.promotion import champion as promotion
    from pipeline.registry.versions import Registry

    recipe = given.recipe
    check_name(recipe)
    entry = promotion.rollback(Registry(tracking()), recipe, given.reason)
    print(f"{recipe}/{entry.version} is the champion again, in place of {recipe}/{entry.previous}")
    return 0


def explain(given: argparse.Namespace) -> int:
    from flows.cli.explain import explain
    from pipeline.registry.versions import Registry

    print(explain(Registry(tracking()), *_version(given.version)))
    return 0


def report(given: argparse.Namespace) -> int:
    from pipeline.core.config import check_name
    from pipeline.report.page import write

    check_name(given.recipe)
    print(write(DATA / given.recipe, given.recipe))
    return 0


def fsck(given: argparse.Namespace) -> int:
    from flows.cli.upkeep import fsck

    return fsck(given.recipe)


def gc(given: argparse.Namespace) -> int:
    from flows.cli.upkeep import gc

    return gc(given.keep, given.budget, given.yes)


def forget(given: argparse.Namespace) -> int:
    from flows.cli.upkeep import forget

    return forget(given.recipe, given.ids, given.yes)


def ui(given: argparse.Namespace) -> int:
    from pipeline.registry.client import shown

    if "MLFLOW_TRACKING_URI" in os.environ and tracking().startswith("http"):
        raise UserError(f"MLFLOW_TRACKING_URI is a server already: open {shown(tracking())}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((given.host, given.port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"{given.host}:{given.port}: cannot be listened on ({error}): try another --port"
            ) from None
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    print(f"http://{given.host}:{given.port}  (ctrl-c ends it)", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking()]
    server += ["--host", given.host, "--port", str(given.port), "--workers", "1"]
    os.execv(sys.executable, server)
