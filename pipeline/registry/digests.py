"""Digests of all files of a published run and its version, stored as one artifact of the run.

The run has the SHA-256 of that artifact as a tag. Runs and versions of earlier releases have the
digests themselves as tags, which are still read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.registry.tags import DIGESTS_TAG, FILES_TAG, RECORDS_TAG

FILE = "digests.json"
Part = Literal["run", "version"]
TAGS: Mapping[Part, str] = {"run": RECORDS_TAG, "version": FILES_TAG}  # of earlier releases
Digests = dict[str, str]
"""SHA-256 by path."""


def as_bytes(run: Digests, version: Digests) -> bytes:
    """Content of the artifact: digests of the run's artifacts and of the version's files."""
    return (json.dumps({"run": run, "version": version}, indent=1) + "\n").encode()


def tag_of(content: bytes) -> str:
    """Tag of a run whose digests artifact has this content."""
    return hashlib.sha256(content).hexdigest()


def read(
    part: Part, tags: Mapping[str, str], fetch: Callable[[str], Path], name: str
) -> Digests | None:
    """Return the digests of the run's or the version's files; None if the tags refer to none.

    `fetch` downloads an artifact of the run. Raises UserError, which names `name`, if the artifact
    is missing or does not match its tag.
    """
    if TAGS[part] in tags:
        listed: Digests = json.loads(tags[TAGS[part]])
        return listed
    if DIGESTS_TAG not in tags:
        return None
    path = fetch(FILE)
    if sha256_of(path) != tags[DIGESTS_TAG]:
        raise UserError(f"{FILE} of {name} has changed: restore it from a copy")
    found: Digests = json.loads(path.read_bytes())[part]
    return found
