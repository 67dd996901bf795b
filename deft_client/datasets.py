"""Datasets: upload streamed from disk, then get, list and download as any artifact."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import httpx2

from deft_client.artifacts import Artifacts
from deft_client.exchange import Exchange, Json

CHUNK_BYTES = 1 << 20
UPLOAD_TIMEOUT = httpx2.Timeout(3600.0, connect=10.0)
"""The service checks every row before it answers, which takes minutes for files of gigabytes."""

OnSent = Callable[[int, int], None]
"""Called as a file is sent: the bytes sent, the bytes in all."""


class Datasets(Artifacts):
    """`/v1/datasets`."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange, "datasets")

    def upload(
        self,
        path: str | Path | Iterable[str | Path],
        *,
        name: str | None = None,
        format: str | None = None,  # noqa: A002 - the field's name in the API
        columns: Mapping[str, str] | None = None,
        on_bad_row: Literal["refuse", "skip"] | None = None,
        on_sent: OnSent | None = None,
    ) -> Json:
        """Upload one file, or several as one dataset, and return the dataset.

        The file is read from disk as it is sent, so its size does not matter. Every row is checked by the service
        before this returns.

        Raises:
            InvalidInput: rows are not usable; `errors` lists them. Nothing was stored.
            FileNotFoundError: there is no such file here.
        """
        paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
        for one in paths:
            one.stat()
        fields = {"name": name, "format": format, "on_bad_row": on_bad_row}
        if len(paths) == 1 and columns is None:
            return self._put(paths[0], fields, on_sent)
        return self._post(paths, {**fields, "columns": json.dumps(dict(columns)) if columns else None})

    def _put(self, path: Path, fields: Mapping[str, str | None], on_sent: OnSent | None) -> Json:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        answer: Json = self.exchange.json(
            "PUT",
            "/v1/datasets",
            params={**fields, "filename": path.name},
            content=lambda: {"content": _chunks(path, on_sent), "timeout": UPLOAD_TIMEOUT},
            headers=headers,
        )
        return answer

    def _post(self, paths: list[Path], fields: Mapping[str, str | None]) -> Json:
        form = {key: value for key, value in fields.items() if value is not None}
        with ExitStack() as stack:

            def content() -> Mapping[str, Any]:
                opened = [(path.name, stack.enter_context(path.open("rb"))) for path in paths]
                return {"data": form, "files": [("file", one) for one in opened], "timeout": UPLOAD_TIMEOUT}

            answer: Json = self.exchange.json("POST", "/v1/datasets", content=content)
        return answer


def _chunks(path: Path, on_sent: OnSent | None) -> Iterator[bytes]:
    total = path.stat().st_size
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            if on_sent is not None:
                on_sent(sent, total)
