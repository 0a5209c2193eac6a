"""Deployments as they are sent to Prefect, without a server."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import deployments
from pipeline.core.config import parse
from pipeline.core.errors import UserError
from pipeline.retraining.plan import RetrainParams
from tests.conftest import ROOT, toy_block, write_params


def params(schedule: str | None, timezone: str = "Europe/Berlin") -> RetrainParams:
    block = {"schedule": schedule, "timezone": timezone, "min_new_rows": 1, "notify": []}
    return parse(RetrainParams, block, "recipes.toy.retrain")


def write_toy(folder: Path, schedule: str | None) -> None:
    block: dict[str, Any] = toy_block("base", "data/raw/toy.csv")
    block["retrain"]["schedule"] = schedule
    write_params(folder / "params.yaml", {"toy": block})


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_committed_file_says_what_the_committed_recipes_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert Path("prefect.yaml").read_text() == deployments.prefect_yaml(), "run bertline schedule"


def test_the_file_is_written_only_where_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_toy(tmp_path, "every 6 h")
    assert deployments.write_prefect_yaml()
    assert not deployments.write_prefect_yaml()
    write_toy(tmp_path, "manual")
    assert deployments.write_prefect_yaml()
    assert "schedules: []" in Path("prefect.yaml").read_text()


def test_a_cron_line_keeps_its_time_zone() -> None:
    found = deployments.timetable("toy", params("0 3 * * 1-5"))
    assert found is not None
    assert (found.cron, found.timezone) == ("0 3 * * 1-5", "Europe/Berlin")


def test_an_interval_counts_from_a_midnight_whenever_it_is_scheduled() -> None:
    found = deployments.timetable("toy", params("every 6 h"))
    assert found is not None
    assert (found.interval, found.timezone) == (timedelta(hours=6), "Europe/Berlin")
    assert found.anchor_date == datetime.fromisoformat("2024-01-01T00:00+01:00")


@pytest.mark.parametrize("schedule", ["manual", None])
def test_what_has_no_times_has_no_timetable(schedule: str | None) -> None:
    assert deployments.timetable("toy", params(schedule)) is None


def test_a_bad_cron_line_is_named_in_one_line() -> None:
    with pytest.raises(UserError) as error:
        deployments.timetable("toy", params("61 3 * * *"))
    assert "recipes.toy.retrain.schedule: '61 3 * * *' is no cron line" in one_line(error)


def test_a_bad_time_zone_is_named_in_one_line() -> None:
    with pytest.raises(UserError) as error:
        params("0 3 * * *", "Europe/Atlantis")
    assert "no time zone is called 'Europe/Atlantis'" in one_line(error)


def test_without_any_schedule_there_is_nothing_to_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deployments, "need_server", lambda: None)
    write_toy(tmp_path, None)
    assert deployments.scheduled() == {}
    assert "deployments: []" in deployments.prefect_yaml()
    with pytest.raises(UserError) as error:
        deployments.work()
    assert "no recipe has a schedule" in one_line(error)


def test_a_deployment_runs_once_at_a_time_and_on_new_rows() -> None:
    made = deployments.deployment("toy", params("manual"))
    assert (made.name, made.parameters, made.schedules) == ("toy", {"recipe": "toy"}, [])
    assert made.tags == [deployments.TAG, f"bertline in {Path.cwd()}"]
    assert made.concurrency_limit == 1
    assert made.concurrency_options.collision_strategy == "CANCEL_NEW"
    (trigger,) = made.triggers
    assert trigger.expect == {deployments.NEW_ROWS}
    assert trigger.match.model_dump() == {"prefect.resource.id": "bertline.recipe.toy"}


def test_a_pool_is_told_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = deployments.deployment("toy", params("manual"), "bertline")
    assert made.work_pool_name == "bertline"
    assert made.job_variables == {"working_dir": str(tmp_path)}


def test_leaving_a_pool_is_told_to_the_server() -> None:
    made = deployments.deployment("toy", params("manual"))
    assert made.model_dump(exclude_unset=True)["work_pool_name"] is None


@pytest.mark.parametrize("act", [deployments.schedule, deployments.work])
def test_another_folders_deployment_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    class Client:
        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read_deployments(self) -> list[Any]:
            ours = SimpleNamespace(name="other", tags=[f"bertline in {tmp_path}"])
            return [ours, SimpleNamespace(name="toy", tags=["bertline", "bertline in /a/clone"])]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deployments, "need_server", lambda: None)
    monkeypatch.setattr(deployments, "get_client", lambda sync_client: Client())
    write_toy(tmp_path, "manual")
    with pytest.raises(UserError) as error:
        act()
    assert (
        "retrain/toy: the Prefect server has this deployment as bertline in /a/clone"
        in one_line(error)
    )


def test_without_a_server_nothing_is_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError) as error:
        deployments.need_server()
    assert "PREFECT_API_URL is not set" in one_line(error)
