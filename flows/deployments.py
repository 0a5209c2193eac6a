"""Prefect deployments of the recipes that have a schedule, and automations that close dead runs."""

import io
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.retrain import retrain  # first: it sets Prefect's environment variables

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
WRITTEN_BY = f"# Written by `bertline schedule` from {PARAMS_FILE}: edit that file, not this one.\n"
POOL = "bertline"  # the work pool that prefect.yaml names
HERE = "{{ $PWD }}"  # `prefect deploy` replaces it by the folder that it is called in
TAG = "bertline"
NEW_ROWS = "bertline.new-rows"  # the event that starts a recipe's deployment
HEARTBEAT_TIMEOUT = timedelta(minutes=9)  # three heartbeats
START_TIMEOUT = timedelta(minutes=45)  # more than a container needs for its machine and its image
DEAD_RUNS = "bertline: close runs whose worker has died"
UNSTARTED_RUNS = "bertline: close runs that never began"
ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "Scheduled", "Late", "AwaitingRetry")


def scheduled() -> dict[str, RetrainParams]:
    """Return the recipes that have a schedule. Raises UserError for an invalid one."""
    found = {}
    for name in read_recipes():
        params = recipes.load(name).retrain
        if params.schedule is not None:
            notify.check(params.notify)
            timetable(name, params)
            found[name] = params
    return found


def _folder(folder: Path | str | None = None) -> str:
    """Tag of the folder that owns a deployment, for projects that share a server."""
    return f"{TAG} in {folder or Path.cwd()}"


def timetable(recipe: str, params: RetrainParams) -> Schedule | None:
    """Convert a recipe's schedule to Prefect's; None if only people and events start it."""
    if params.schedule is None or params.schedule == "manual":
        return None
    if params.every:
        midnight = datetime(2024, 1, 1, tzinfo=ZoneInfo(params.timezone))
        return Schedule(
            interval=timedelta(seconds=params.every),
            timezone=params.timezone,
            anchor_date=midnight,  # else each `bertline schedule` restarts the interval
        )
    try:
        CronSchedule(cron=params.schedule, timezone=params.timezone)
    except ValueError:
        raise UserError(
            f"{PARAMS_FILE}: recipes.{recipe}.retrain.schedule: {params.schedule!r} is no cron"
            " line: write minute, hour, day, month, weekday"
        ) from None
    return Schedule(cron=params.schedule, timezone=params.timezone)


def deployment(recipe: str, params: RetrainParams, pool: str | None = None) -> RunnerDeployment:
    """Make a recipe's deployment, for `bertline work` or a work pool."""
    when = timetable(recipe, params)
    made: RunnerDeployment = retrain.to_deployment(
        recipe,
        schedules=[when] if when else [],
        parameters={"recipe": recipe},
        description=f"Retrains {recipe} if its inputs have changed, and promotes a better version.",
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
    made.work_pool_name = pool  # set even if None: else the deployment keeps its earlier pool
    return made


def prefect_yaml() -> str:
    """Return the prefect.yaml of params.yaml's deployments, which `prefect deploy --all` reads."""
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
    """Write prefect.yaml if it differs from params.yaml. Returns True if it was written."""
    wanted = prefect_yaml()
    if PREFECT_FILE.exists() and PREFECT_FILE.read_text(encoding="utf-8") == wanted:
        return False
    write_text(PREFECT_FILE, wanted)
    return True


def schedule(pool: str | None = None) -> list[str]:
    """Create or update the deployments, delete those of recipes without a schedule, and set up the
    automations that close dead runs. Returns a line for each deployment."""
    need_server()
    wanted = scheduled()
    _check_ours(wanted)
    lines = []
    for recipe, params in wanted.items():
        deployment(recipe, params, pool).apply()
        when = (
            params.schedule
            if params.schedule == "manual"
            else f"{params.schedule} {params.timezone}"
        )
        lines.append(f"retrain/{recipe}: {when}")
    with get_client(sync_client=True) as client:
        for old in client.read_deployments():
            if _folder() in old.tags and old.name not in wanted:
                client.delete_deployment(old.id)
                lines.append(f"retrain/{old.name}: deleted, its recipe has no schedule")
    _set_up_automations()
    return lines


def _check_ours(wanted: Iterable[str]) -> None:
    """Raise UserError if another folder's deployment on the server has the name of a recipe: it
    would be overwritten, and a run could then start in either folder."""
    with get_client(sync_client=True) as client:
        for old in client.read_deployments():
            others = [tag for tag in old.tags if tag.startswith(f"{TAG} in ") and tag != _folder()]
            if old.name in wanted and others:
                raise UserError(
                    f"retrain/{old.name}: the Prefect server has this deployment as {others[0]}:"
                    f" rename the recipe, or, if that folder is gone: prefect deployment delete"
                    f" retrain/{old.name}"
                )


def work() -> None:
    """Serve the deployments until this process is stopped; each run is a process of its own.

    Their schedules stay active after it stops.
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
    _set_up_automations()
    serve(*served, pause_on_shutdown=False)


def need_server() -> None:
    """Raise UserError if no Prefect server is set or it does not answer.

    Only a server that stays up keeps schedules. Raises httpx.HTTPStatusError if it denies access.
    """
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        raise UserError(
            "PREFECT_API_URL is not set, and only a Prefect server keeps schedules: make servers"
        )
    with get_client(sync_client=True) as client:
        if (error := client.api_healthcheck()) is not None:
            raise UserError(f"Prefect at {address} does not answer ({error}): start it") from None
        client.hello().raise_for_status()  # the health check needs no credentials


def _set_up_automations() -> None:
    """Set up the automations that crash runs without a heartbeat, whose worker has died, and runs
    that were handed to a container and did not start."""
    heartbeat, running = "prefect.flow-run.heartbeat", "prefect.flow-run.Running"
    reason = "its worker has died; nothing is lost, the next run resumes from the last checkpoint"
    _set_up(DEAD_RUNS, {heartbeat, running}, {heartbeat}, HEARTBEAT_TIMEOUT, reason)
    pending = {"prefect.flow-run.Pending"}
    _set_up(UNSTARTED_RUNS, pending, {heartbeat, running}, START_TIMEOUT, "it never started")


def _set_up(name: str, after: set[str], expect: set[str], within: timedelta, reason: str) -> None:
    """Create an automation that crashes runs where no `expect` event follows an `after` event.

    The server refuses to crash a run that has ended (no `force`), so a last heartbeat that arrives
    after the end, as in prefect#18653, has no effect.
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
                message=f"no heartbeat for {within.seconds // 60} minutes: {reason}",
            )
        ],
    )
    try:
        found = Automation.read(name=name)
    except ValueError:
        automation.create()
        return
    if found.model_dump(exclude={"id"}) != automation.model_dump(exclude={"id"}):
        # only if it differs: an update drops the runs that the automation is tracking
        automation.id = found.id
        automation.update()
