"""Tags that say who made a run and from what source, as MLflow's pages show them."""

import getpass
import subprocess


def origin(command: str) -> dict[str, str]:
    """The user, the command, and the commit of the folder that is worked in, where git has one."""
    tags = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
    }
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    except FileNotFoundError:
        return tags
    if done.returncode == 0:
        tags["mlflow.source.git.commit"] = done.stdout.strip()
    return tags
