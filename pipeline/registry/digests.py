"""Digests of what a published run and its version hold, as one artifact of the run.

The run and the version carry the SHA-256 of that artifact as a tag. Earlier versions carry the
digests themselves as tags, which are read where they are.
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
TAGS: Mapping[Part, str] = {"run": RECORDS_TAG, "version": FILES_TAG}  # of earlier versions
Digests = dict[str, str]
"""SHA-256 by path."""


def as_bytes(run: Digests, version: Digests) -> bytes:
    """The artifact: what the run holds, and what the version's folder holds."""
    return (json.dumps({"run": run, "version": version}, indent=1) + "\n").encode()


def tag_of(content: bytes) -> str:
    """The tag that an artifact of this content goes with."""
    return hashlib.sha256(content).hexdigest()


def read(
    part: Part, tags: Mapping[str, str], fetch: Callable[[str], Path], name: str
) -> Digests | None:
    """One part of the digests that tags stand for; None where they stand for none.

    `fetch` brings an artifact of the run to this machine. Raises UserError, which names `name`,
    where the artifact is gone, or is not the one of the tag.
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
