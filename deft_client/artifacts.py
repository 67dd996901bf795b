"""What the service made and hands out: datasets, scorings, subsets, adapters, tuned models, evaluations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deft_client.downloads import OnBytes, download
from deft_client.errors import UnexpectedAnswer
from deft_client.exchange import Exchange, Json
from deft_client.listing import pages


class Artifacts:
    """`/v1/NOUN` for one kind of artifact: get, list and download."""

    def __init__(self, exchange: Exchange, noun: str) -> None:
        self.exchange = exchange
        self.noun = noun

    def get(self, artifact_id: str) -> Json:
        """Return the artifact: its summary and its files with size and SHA-256."""
        answer: Json = self.exchange.json("GET", f"/v1/{self.noun}/{artifact_id}")
        return answer

    def list(self, *, limit: int | None = None, order: str | None = None) -> Iterator[Json]:
        """Yield the artifacts, newest first, fetching pages as needed."""
        return pages(self.exchange, f"/v1/{self.noun}", {"order": order}, limit)

    def download(
        self,
        artifact_id: str,
        folder: str | Path,
        *,
        only: Iterable[str] | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Sequence[Path]:
        """Download the files of an artifact (*only* those named) into *folder* and return where they are.

        Broken transfers resume, every file's SHA-256 is checked, and a name appears only with complete content.

        Raises:
            UnexpectedAnswer: a file of *only* is not in the artifact.
            DownloadCorrupt: a file is not what the service recorded.
        """
        entries = {entry["path"]: entry for entry in self.get(artifact_id)["files"]}
        names = list(entries if only is None else only)
        missing = [name for name in names if name not in entries]
        if missing:
            raise UnexpectedAnswer(f"{artifact_id} has no file {', '.join(missing)}; it has {', '.join(entries)}")
        target = Path(folder)
        return [download(self.exchange, self.url(artifact_id, name), entries[name], target, on_bytes) for name in names]

    def url(self, artifact_id: str, path: str) -> str:
        """Return the address path of one file."""
        return f"/v1/{self.noun}/{artifact_id}/files/{path}"


class Subsets(Artifacts):
    """`/v1/subsets`; making one is a select job that answers in seconds."""

    def create(
        self,
        scoring: str,
        selection: Mapping[str, Any] | None = None,
        *,
        distribution: str | None = None,
        aspects: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> Json:
        """Post a selection over a scoring and return its job.

        *distribution* is another scoring under the same head, whose Q_diff ranks; *aspects* weigh its aspects anew.
        """
        asked = {"selection": selection, "distribution": distribution, "aspects": aspects, "name": name}
        body: Json = {"scoring": scoring, **{key: value for key, value in asked.items() if value is not None}}
        answer: Json = self.exchange.json("POST", "/v1/subsets", content=lambda: {"json": body})
        return answer


class Evaluations(Artifacts):
    """`/v1/evaluations`; one evaluation carries its metrics and its comparison, a listed one its `scores`."""

    def list(self, *, limit: int | None = None, order: str | None = None, **filters: str | None) -> Iterator[Json]:
        """Yield the evaluations that match all *filters*, newest first.

        *filters* are those of the API: `model`, `dataset`, `adapter`, `metric`, `system`, `arm`, `settings_hash`,
        `slice`.
        """
        return pages(self.exchange, f"/v1/{self.noun}", {"order": order, **filters}, limit)
