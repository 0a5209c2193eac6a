"""A model's ledger in MLflow: an experiment with one run per entry and one per frozen test set."""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.registry.client import all_pages, experiment_id, shown
from pipeline.registry.lock import hold
from pipeline.registry.records import Entry, Epoch
from pipeline.registry.tags import ENTRY_TAG, EPOCH_TAG, NOTE_TAG, STATE_TAG
from pipeline.registry.versions import Registry

EPOCH_FILE = "epoch.json"
Pages = Sequence[tuple[str, str | bytes]]  # files of an entry: name, content


def experiment_of(model: str) -> str:
    """Name of the experiment that holds a model's ledger."""
    return f"{model}-ledger"


class Written(NamedTuple):
    """An entry as stored in the ledger."""

    run: str
    entry: Entry
    settled: bool
    """True if the alias has been moved as the entry says."""


class Ledger:
    """Decisions about one model's versions, and the test sets that they were made on."""

    def __init__(self, registry: Registry, model: str) -> None:
        self.registry, self.model = registry, model

    def lock(self, patience: float = 300.0) -> AbstractContextManager[None]:
        """Hold the ledger's lock, which is shared by all machines and not reentrant.

        Raises Unavailable if it is not free after `patience` seconds.
        """
        address = shown(self.registry.tracking)
        return hold(self.registry.client, f"{self.model}.lock", address, patience)

    # entries

    def append(self, entry: Entry, pages: Pages = ()) -> str:
        """Write an entry as an intent. Returns its run, for `settle` once the alias has moved."""
        run = self._new_run(
            f"{entry.number} {entry.event} {entry.model}/{entry.version}",
            {
                ENTRY_TAG: entry.model_dump_json(),
                STATE_TAG: "intent",
                NOTE_TAG: f"{entry.who}, {entry.when}: {entry.reason}",
            },
        )
        self.registry.client.set_terminated(run, "FINISHED")
        self._add_pages(run, pages)
        return run

    def settle(self, run: str) -> None:
        self.registry.client.set_tag(run, STATE_TAG, "done")

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        return [written.entry for written in self.written()]

    def written(self) -> list[Written]:
        """All entries with run and state, oldest first."""
        found = [
            Written(
                str(run.info.run_id),
                Entry.model_validate_json(run.data.tags[ENTRY_TAG]),
                run.data.tags.get(STATE_TAG) == "done",
            )
            for run in self._runs(ENTRY_TAG)
        ]
        return sorted(found, key=lambda written: (written.entry.number, written.entry.when))

    # frozen test sets

    def open_epoch(self, epoch: Epoch) -> None:
        """Freeze a test set. The caller holds the lock."""
        run = self._new_run(
            f"test set {epoch.number}: {len(epoch.ids)} rows", {NOTE_TAG: epoch.why}
        )
        self._add_pages(run, [(EPOCH_FILE, epoch.model_dump_json())])
        self.registry.client.set_tag(run, EPOCH_TAG, str(epoch.number))  # `epochs` finds it by this
        self.registry.client.set_terminated(run, "FINISHED")

    def epochs(self) -> list[Epoch]:
        """Frozen test sets, oldest first."""
        files = (self.registry.artifact(r.info.run_id, EPOCH_FILE) for r in self._runs(EPOCH_TAG))
        found = [Epoch.model_validate_json(file.read_bytes()) for file in files]
        return sorted(found, key=lambda epoch: epoch.number)

    # runs

    def _new_run(self, name: str, tags: dict[str, str]) -> str:
        client = self.registry.client
        experiment = experiment_id(client, experiment_of(self.model), self.registry.tracking)
        return str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)

    def _add_pages(self, run: str, pages: Pages) -> None:
        if not pages:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in pages:
                raw = content.encode() if isinstance(content, str) else content
                (Path(folder) / name).write_bytes(raw)
            self.registry.client.log_artifacts(run, folder)

    def _runs(self, tag: str) -> list[Any]:
        """Runs of the ledger that have a tag."""
        client = self.registry.client
        found = client.get_experiment_by_name(experiment_of(self.model))
        if found is None:
            return []
        runs = all_pages(client.search_runs, [found.experiment_id])
        return [run for run in runs if tag in run.data.tags]
