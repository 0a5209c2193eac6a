"""Compose and Docker files, checked without a container engine."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT

INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(INFRA / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (INFRA / "Dockerfile").read_text()
STAGES = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M)}


def test_compose_yaml_keeps_to_the_compose_specification() -> None:
    tool = str(Path(sys.executable).with_name("check-jsonschema"))
    file = str(INFRA / "compose.yaml")
    schema = ("--builtin-schema", "vendor.compose-spec")
    done = subprocess.run([tool, *schema, file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    tool = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([tool, str(INFRA / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_image_has_an_exact_tag() -> None:
    pulled = [s["image"] for s in SERVICES.values() if "build" not in s]
    pulled += [base for base in STAGES.values() if base not in STAGES]
    assert len(pulled) == 3
    for image in pulled:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image), image


def test_what_is_built_is_a_stage_and_does_not_run_as_root() -> None:
    assert {"cpu", "cuda", "servers"} <= STAGES.keys()
    users = dict(re.findall(r"AS (\S+)\n(?:(?!FROM).*\n)*?USER (\d+)", DOCKERFILE))
    for name, service in SERVICES.items():
        if "build" in service:
            stage = service["build"]["target"]
            while stage not in users:
                stage = STAGES[stage]
            assert users[stage] == "1000", name
            assert service["cap_drop"] == ["ALL"]


def test_the_image_that_serves_is_slim_and_tells_whether_it_is_ready() -> None:
    stages = {text.split()[2]: text for text in DOCKERFILE.split("FROM ")[1:]}
    built, serve = stages["serve-build"], stages["serve"]
    assert re.findall(r"\[(\w+)\]'", built) == ["serve"]
    assert "--extra" not in built
    assert STAGES["serve"] == "base"
    assert "USER 1000" in serve
    assert re.search(r"HEALTHCHECK.*\n.*/readyz", serve)
    assert re.search(r'^CMD \["bertline", "serve", ', serve, re.M)


def test_what_an_image_copies_is_sent_to_its_builder() -> None:
    sent = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.M))
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    assert {name.split("/")[0] for line in copied for name in line.split()} == sent


def test_ports_are_this_machines_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_come_from_files_and_each_is_granted() -> None:
    for name, service in SERVICES.items():
        granted = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
        text = json.dumps(service)
        assert set(re.findall(r"/run/secrets/\w+", text)) <= granted, name
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|PASSPHRASE|AUTH_STRING", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value in granted, (name, variable)
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])


def test_what_waits_for_health_waits_for_one_who_tells_it() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]


def test_the_secrets_that_compose_names_are_made_once_and_for_its_owner(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    script = tmp_path / "infra" / "compose-secrets.sh"
    script.write_bytes((INFRA / script.name).read_bytes())
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    folder = tmp_path / ".bertline" / "secrets"
    made = {path.name: path.read_text() for path in folder.iterdir()}
    named = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert made.keys() == named
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert re.fullmatch("bertline:[0-9a-f]{48}", made["prefect_auth"])
    identity = json.loads(made["store_identities"])["identities"][0]["credentials"][0]
    assert identity == {"accessKey": "bertline", "secretKey": made["store_key"]}
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


@pytest.mark.parametrize("value", ["plain", "of two words", 'a\'quote "and" $HOME'])
def test_a_container_reads_its_secrets_from_files(tmp_path: Path, value: str) -> None:
    """Run the script on secrets in another folder."""
    (tmp_path / "key").write_text(value)
    script = (INFRA / "with-secrets.sh").read_text()
    script = script.replace(r"\/run\/secrets", str(tmp_path).replace("/", r"\/"))
    show = "import os; print([os.environ.get(n) for n in ('A_KEY', 'A_KEY_FILE', 'B_FILE')])"
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-c", show],
        env={
            "A_KEY_FILE": str(tmp_path / "key"),
            "B_FILE": "/etc/hostname",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str([value, None, "/etc/hostname"]), done.stderr
