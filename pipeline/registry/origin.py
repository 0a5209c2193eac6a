"""Tags with the user, command and commit of a run, which MLflow's pages show."""

import getpass
import subprocess


def origin(command: str) -> dict[str, str]:
    """Tags with the user, the command and, in a git repository, the commit of this folder."""
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
