"""Deployments in Prefect: one for each recipe that has a schedule, and who closes dead runs."""

import io
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.retrain import retrain  # first: it tells Prefect things before that is imported

# isort: split

from prefect import get_client, serve
from prefect.automations import Automation
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.schedules import Schedule
from prefect.states import StateType
from prefect.types.entrypoint import EntrypointType

from flows import notify
from pipeline import recipe as recipes
from pipeline.core.config import PARAMS_FILE, read_recipes
from pipeline.core.errors import UserError
from pipeline.core.files import write_text
from pipeline.retraining.plan import RetrainParams

PREFECT_FILE = Path("prefect.yaml")
WRITTEN_BY = f"# Written by `bertline schedule` from {PARAMS_FILE}: edit that, not this.\n"
POOL = "bertline"  # the work pool that prefect.yaml names
HERE = "{{ $PWD }}"  # the folder that `prefect deploy` is called in, which it puts here
TAG = "bertline"
NEW_ROWS = "bertline.new-rows"  # the event that starts a recipe's deployment
SILENT = timedelta(minutes=9)  # without a heartbeat, after which a run is dead: 3 of them
UNBEGUN = timedelta(minutes=45)  # more than a container waits for its machine and its image
UNDERTAKER = "bertline: close runs whose worker has died"
UNDERTAKER_OF_UNBEGUN = "bertline: close runs that never began"
ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "Scheduled", "Late", "AwaitingRetry")


def scheduled() -> dict[str, RetrainParams]:
    """The recipes that have a schedule. Raises UserError for one that is broken."""
    found = {}
    for name in read_recipes():
        params = recipes.load(name).retrain
        if params.schedule is not None:
            notify.check(params.notify)
            timetable(name, params)
            found[name] = params
    return found


def _folder(folder: Path | str | None = None) -> str:
    """Whose deployment it is, where projects share a server: this folder's, or another's."""
    return f"{TAG} in {folder or Path.cwd()}"


def timetable(recipe: str, params: RetrainParams) -> Schedule | None:
    """A recipe's schedule as Prefect knows it; none where it is only started by hand or event."""
    if params.schedule is None or params.schedule == "manual":
        return None
    if params.every:
        midnight = datetime(2024, 1, 1, tzinfo=ZoneInfo(params.timezone))
        return Schedule(
            interval=timedelta(seconds=params.every),
            timezone=params.timezone,
            anchor_date=midnight,  # else each `bertline schedule` begins to count anew
        )
    try:
        CronSchedule(cron=params.schedule, timezone=params.timezone)
    except ValueError:
        raise UserError(
            f"{PARAMS_FILE}: recipes.{recipe}.retrain.schedule: {params.schedule!r} is no cron"
            " line: minute, hour, day, month, weekday"
        ) from None
    return Schedule(cron=params.schedule, timezone=params.timezone)


def deployment(recipe: str, params: RetrainParams, pool: str | None = None) -> RunnerDeployment:
    """A recipe's deployment, for `bertline work` or a work pool."""
    when = timetable(recipe, params)
    made: RunnerDeployment = retrain.to_deployment(
        recipe,
        schedules=[when] if when else [],
        parameters={"recipe": recipe},
        description=f"Retrains {recipe} where that is worth it, and promotes what is better.",
        tags=[TAG, _folder()],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        triggers=[
            DeploymentEventTrigger(
                name=f"bertline: new rows for {recipe}",
                expect={NEW_ROWS},
                match={"prefect.resource.id": f"bertline.recipe.{recipe}"},
            )
        ],
        job_variables={"working_dir": str(Path.cwd())} if pool else None,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    made.work_pool_name = pool  # said also where it is none: else it stays in the pool it was in
    return made


def prefect_yaml() -> str:
    """What `prefect deploy --all` reads: the deployments of params.yaml, for a work pool."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO(WRITTEN_BY)
    stream.seek(0, io.SEEK_END)
    pull = {"prefect.deployments.steps.set_working_directory": {"directory": HERE}}
    made = [deployment(recipe, params, POOL) for recipe, params in scheduled().items()]
    yaml.dump({"pull": [pull], "deployments": [_as_yaml(each) for each in made]}, stream)
    return stream.getvalue()


def _as_yaml(made: RunnerDeployment) -> dict[str, Any]:
    timed = {"cron", "interval", "anchor_date", "timezone"}
    return {
        "name": made.name,
        "description": made.description,
        "entrypoint": "flows/retrain.py:retrain",
        "parameters": made.parameters,
        "schedules": [s.schedule.model_dump(mode="json", include=timed) for s in made.schedules],
        "tags": [TAG, _folder(HERE)],
        "concurrency_limit": {
            "limit": made.concurrency_limit,
            "collision_strategy": made.concurrency_options.collision_strategy.value,
        },
        "triggers": [each.model_dump(mode="json", exclude_unset=True) for each in made.triggers],
        "work_pool": {"name": made.work_pool_name, "job_variables": {"working_dir": HERE}},
    }


def write_prefect_yaml() -> bool:
    """Write prefect.yaml where it is not what params.yaml says. Returns whether it was written."""
    wanted = prefect_yaml()
    if PREFECT_FILE.exists() and PREFECT_FILE.read_text(encoding="utf-8") == wanted:
        return False
    write_text(PREFECT_FILE, wanted)
    return True


def schedule(pool: str | None = None) -> list[str]:
    """Create or update the deployments, delete those whose recipe has no schedule any more, and
    set up who closes dead runs. Returns a line each."""
    need_server()
    wanted = scheduled()
    _check_ours(wanted)
    told = []
    for recipe, params in wanted.items():
        deployment(recipe, params, pool).apply()
        when = (
            params.schedule
            if params.schedule == "manual"
            else f"{params.schedule} {params.timezone}"
        )
        told.append(f"retrain/{recipe}: {when}")
    with get_client(sync_client=True) as client:
        for old in client.read_deployments():
            if _folder() in old.tags and old.name not in wanted:
                client.delete_deployment(old.id)
                told.append(f"retrain/{old.name}: deleted, its recipe has no schedule")
    _set_up_undertakers()
    return told


def _check_ours(wanted: Iterable[str]) -> None:
    """Raises UserError where one of the recipes has the name of another folder's on the server,
    whose deployment would become ours: a run could then be started in either folder."""
    with get_client(sync_client=True) as client:
        for old in client.read_deployments():
            others = [tag for tag in old.tags if tag.startswith(f"{TAG} in ") and tag != _folder()]
            if old.name in wanted and others:
                raise UserError(
                    f"retrain/{old.name}: the Prefect server has it as {others[0]}: rename the"
                    f" recipe, or, if that folder is gone: prefect deployment delete"
                    f" retrain/{old.name}"
                )


def work() -> None:
    """Serve the deployments from this process until it is ended; each run is a process of its own.

    Their schedules stay as they are when it ends.
    """
    need_server()
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "5")  # seconds
    wanted = scheduled()
    served = [deployment(recipe, params) for recipe, params in wanted.items()]
    if not served:
        raise UserError(
            f"{PARAMS_FILE}: no recipe has a schedule: write retrain.schedule, for instance"
            " 0 3 * * *"
        )
    _check_ours(wanted)
    _set_up_undertakers()
    serve(*served, pause_on_shutdown=False)


def need_server() -> None:
    """Raises UserError where Prefect has no server, or it does not answer: only one that stays up
    keeps schedules. Raises httpx.HTTPStatusError where it does not let us in."""
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        raise UserError(
            "PREFECT_API_URL is not set: only a Prefect server keeps schedules: make servers"
        )
    with get_client(sync_client=True) as client:
        if (error := client.api_healthcheck()) is not None:
            raise UserError(f"Prefect at {address} does not answer ({error}): start it") from None
        client.hello().raise_for_status()  # its health is told to anybody


def _set_up_undertakers() -> None:
    """A run that began and has been silent since is crashed: its worker has died. So is one that
    was handed to a container and did not begin."""
    alive = "prefect.flow-run.heartbeat", "prefect.flow-run.Running"
    what = "its worker has died; nothing is lost, and the next run goes on from the last checkpoint"
    _set_up_undertaker(UNDERTAKER, set(alive), set(alive[:1]), SILENT, what)
    pending = {"prefect.flow-run.Pending"}
    _set_up_undertaker(UNDERTAKER_OF_UNBEGUN, pending, set(alive), UNBEGUN, "it never began")


def _set_up_undertaker(
    name: str, after: set[str], expect: set[str], within: timedelta, what: str
) -> None:
    """Crash a run when, after one of some events, none of others comes within a time.

    The server refuses to crash a run that has ended (no `force`): a last heartbeat that overtakes
    the end, as in prefect#18653, changes nothing.
    """
    automation = Automation(
        name=name,
        description="Written by `bertline schedule`.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{TAG}",
            },
            after=after,
            expect=expect | {f"prefect.flow-run.{state}" for state in ENDS},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no sign of life for {within.seconds // 60} minutes: {what}",
            )
        ],
    )
    try:
        found = Automation.read(name=name)
    except ValueError:
        automation.create()
        return
    if found.model_dump(exclude={"id"}) != automation.model_dump(exclude={"id"}):
        # not where it is the same: an update forgets the runs that it is waiting for
        automation.id = found.id
        automation.update()
