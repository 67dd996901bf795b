"""What a claimed job needs before its child can begin: its model here, its inputs checked, its folders laid out.

It reads rows through the attempt's own way of asking the database, and starts no process.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from deft import endpoints
from deft.errors import InvalidInput
from deft.scoring.shards import stored_spec
from deft.specs import endpoint_named, model_references
from store import artifacts, claims, models
from store.claims import Claim
from store.tables import Model
from worker import devices, resume
from worker.child import Order
from worker.workplace import Workplace

Ask = Callable[[Callable[[Session], Any]], Any]
"""Does an action in a transaction, again while the database is away and the lease lasts, and returns its result."""


class Preparation:
    """Prepares one claimed job; *checkpoints* is the folder of its resume states, *ask* asks the database."""

    def __init__(self, place: Workplace, claim: Claim, checkpoints: Path, ask: Ask) -> None:
        self._place = place
        self._claim = claim
        self._checkpoints = checkpoints
        self._ask = ask

    def fetching(self) -> list[list[str]]:
        """Return the commands that bring the job's models here from the Hub, those that are not here yet."""
        return [command for model in self._models().values() if (command := self._fetching(model)) is not None]

    def _fetching(self, model: Model) -> list[str] | None:
        if model.hub_id is None or model.revision is None:
            return None
        folder = models.folder_of(self._place.settings, model)
        if folder.is_dir():
            return None
        folder.parent.mkdir(parents=True, exist_ok=True)
        return [sys.executable, "-m", "worker.fetch", model.hub_id, model.revision, str(folder)]

    def order(self, work: Path) -> Order:
        """Check the inputs, lay out the attempt's folders in *work*, and return what the child is to do.

        Raises:
            InvalidInput: the model's folder is not on this worker.
            ArtifactCorrupt: an input is not what was stored.
        """
        spec, out = work / "spec.json", work / "out"
        out.mkdir()
        spec.write_text(json.dumps(self._claim.spec), encoding="utf-8")
        rows = self._ask(lambda session: claims.checkpoints(session, self._claim))
        recorded = [resume.Recorded(row.fence, row.folder) for row in rows]
        return Order(
            spec=spec.resolve(),
            inputs=self._inputs(),
            out=out.resolve(),
            checkpoints=resume.take_over(self._checkpoints.resolve(), self._claim.fence, recorded),
            accepted=self._claim.accepted,
            processes=self._processes(),
            cache=self._place.settings.cache_folder.resolve() / self._claim.team_id,
        )

    def endpoint(self) -> dict[str, str]:
        """Return the environment that holds the endpoint which the job names; empty: it names none, or none is known.

        The child says which of the two; no argument, file or log of ours ever has the key.
        """
        named = endpoint_named(self._claim.spec)
        known = None if named is None else self._place.settings.endpoints.get(named)
        return {} if known is None else {endpoints.URL: known.url, endpoints.KEY: known.key.get_secret_value()}

    def _processes(self) -> int:
        """Return in how many processes the job runs: a training in one a GPU where all of them are its own."""
        if self._claim.kind != "train":
            return 1
        settings = self._place.settings
        return max(1, len(devices.gpus(os.environ))) if settings.is_gpu_node else settings.train_processes

    def _inputs(self) -> dict[str, Path]:
        found = self._ask(
            lambda session: {
                name: artifacts.get(session, self._claim.team_id, artifact_id)
                for name, artifact_id in self._claim.inputs.items()
            }
        )
        checked = {artifact.id: self._place.files.open_checked(artifact).resolve() for artifact in found.values()}
        inputs = {name: checked[artifact.id] for name, artifact in found.items()}
        return inputs | {name: self._model_folder(model) for name, model in self._models().items()}

    def _models(self) -> dict[str, Model]:
        """Return the job's models by the names of their input folders: its own, and those that its spec names."""
        ids = {} if self._claim.model_id is None else {"model": self._claim.model_id}
        ids |= {named.name: named.id for named in model_references(stored_spec.validate_python(self._claim.spec))}
        found: dict[str, Model | None] = self._ask(
            lambda session: {name: session.get(Model, model_id) for name, model_id in ids.items()}
        )
        return {name: model for name, model in found.items() if model is not None}

    def _model_folder(self, model: Model) -> Path:
        folder = models.folder_of(self._place.settings, model).resolve()
        if not folder.is_dir():
            raise InvalidInput(f"the folder of the model {model.name} is not on this worker", code="model_missing")
        return folder
