"""Receives the files of a dataset: streamed to a staging folder under one byte cap, a running hash beside it.

It knows neither what is in the files nor where a dataset is kept.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from api.bodies import capped, check_content_type, validated
from deft import strict_json
from deft.data.row_checks import BadRow
from deft.errors import Finding, InvalidInput, shown
from deft.spec_errors import pointer_of

MAX_FILES = 64
MAX_FIELDS = 16
MAX_FIELD_BYTES = 64 * 1024
COPY_BYTES = 1024 * 1024
UNSAFE = re.compile(r"[^A-Za-z0-9._\-]+")


class DatasetOptions(BaseModel):
    """What comes with the files of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^\x00]*$")
    format: str = Field("auto", min_length=1, max_length=40, description="auto, or the name of an importer.")
    columns: dict[str, str] | None = Field(None, description="Our fields and the file's columns that hold them.")
    on_bad_row: Literal["refuse", "skip"] = Field(
        "refuse", description="refuse: a bad row refuses the upload; skip: bad rows go to a report."
    )


@dataclass(frozen=True, slots=True)
class Upload:
    """What was received: *paths* of the files, the *options*, and a *digest* of all of it."""

    paths: list[Path]
    options: DatasetOptions
    digest: str


def safe_name(name: str | None) -> str:
    """Return a file name made from a caller's *name*: its last part, other than letters, digits, `.`, `_`, `-` as `_`.

    The suffix stays, since it says what the file is; nothing of the name can lead out of a folder.
    """
    last = PurePosixPath((name or "").replace("\\", "/")).name
    cleaned = UNSAFE.sub("_", last).lstrip(".")
    return cleaned[-100:] or "upload"


async def receive_raw(request: Request, folder: Path, filename: str | None, options: DatasetOptions) -> Upload:
    """Write the body of *request* to *folder* as one file.

    Raises:
        TooLarge: the body is over the limit; the rest is not read.
        UnsupportedMedia: the body is a form.
    """
    check_raw_type(request)
    digest = hashlib.sha256(_options_bytes(options))
    path = folder / safe_name(filename)
    with path.open("wb") as file:
        async for chunk in capped(request, request.app.state.services.settings.max_upload_bytes):
            digest.update(chunk)
            await run_in_threadpool(file.write, chunk)
    return Upload([path], options, digest.hexdigest())


def check_raw_type(request: Request) -> None:
    """Refuse a form sent to the address that takes the file itself."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        check_content_type(request, "application/octet-stream")


async def receive_form(request: Request, folder: Path) -> Upload:
    """Write the files of a multipart form to *folder* and return them with the form's fields.

    Raises:
        TooLarge: the form is over the limit; the rest is not read.
        UnsupportedMedia: the body is not a multipart form.
        InvalidInput: the form is malformed, lacks a file, or has a field that there is not.
    """
    check_content_type(request, "multipart/form-data")
    form = await _parsed_form(request)
    try:
        files = _files_of(form)
        options = _options_of(form)
        digest = hashlib.sha256(_options_bytes(options))
        paths = [folder / f"{index:02d}" / safe_name(file.filename) for index, file in enumerate(files)]
        for file, path in zip(files, paths, strict=True):
            digest.update(await run_in_threadpool(_copy, file, path))
    finally:
        await form.close()
    return Upload(paths, options, digest.hexdigest())


async def _parsed_form(request: Request) -> FormData:
    stream = capped(request, request.app.state.services.settings.max_upload_bytes)
    parser = _WholeForm(
        request.headers, stream, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _unreadable(error.message) from None
    if not parser.is_whole:
        await form.close()
        raise _unreadable("the end of the body before the form's last boundary")
    return form


class _WholeForm(MultiPartParser):
    """Knows whether the form's closing boundary came: a body that was cut may lack whole files."""

    is_whole = False

    def on_end(self) -> None:
        """Runs at the closing boundary."""
        self.is_whole = True


def _unreadable(found: str) -> InvalidInput:
    finding = Finding("invalid_form", shown(found), "a whole multipart form", "Send a valid form.", column="form")
    return InvalidInput("The form cannot be read.", code="invalid_form", findings=[finding])


def _files_of(form: FormData) -> Sequence[UploadFile]:
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    misnamed = [name for name, value in form.multi_items() if isinstance(value, UploadFile) and name != "file"]
    if misnamed or not files:
        found = shown(misnamed[0]) if misnamed else "nothing"
        fix = "Send each file in a form field named `file`."
        finding = Finding("missing_file", found, "one or more files in the field `file`", fix, column="file")
        raise InvalidInput("The form has no usable file.", code="invalid_form", findings=[finding])
    return files


def _options_of(form: FormData) -> DatasetOptions:
    sent = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    fields: dict[str, Any] = {}
    for name, value in sent:
        if name in fields:
            raise _repeated(name, sum(other == name for other, _ in sent))
        fields[name] = _columns(value) if name == "columns" and value else value
    return options_from({name: value for name, value in fields.items() if value != ""})


def _repeated(name: str, times: int) -> InvalidInput:
    finding = Finding("repeated_field", f"{times} times", "every field once", "Send it once.", pointer_of((name,)))
    return InvalidInput("The form has a field more than once.", code="repeated_field", findings=[finding])


def options_from(fields: Mapping[str, Any]) -> DatasetOptions:
    """Return the options that *fields* of a form or of a query hold.

    Raises:
        InvalidInput: a field is unknown or not valid; the pointer names it.
    """
    return validated(DATASET_OPTIONS, dict(fields))


def _columns(text: str) -> object:
    try:
        return strict_json.parse(text.encode())
    except UnicodeEncodeError:
        return text  # the model says what is wrong with it
    except BadRow as bad:
        pointer = pointer_of(("columns", bad.column) if bad.column is not None else ("columns",))
        finding = Finding(bad.code, bad.found, bad.expected, "Send one JSON object: our field to yours.", pointer)
        raise InvalidInput("The field `columns` cannot be read.", code="invalid_body", findings=[finding]) from None


def _options_bytes(options: DatasetOptions) -> bytes:
    return options.model_dump_json().encode()


def _copy(file: UploadFile, path: Path) -> bytes:
    """Copy a received file to *path* and return its SHA-256."""
    path.parent.mkdir()
    digest = hashlib.sha256()
    with path.open("wb") as target:
        while chunk := file.file.read(COPY_BYTES):
            digest.update(chunk)
            target.write(chunk)
    return digest.digest()


DATASET_OPTIONS: TypeAdapter[DatasetOptions] = TypeAdapter(DatasetOptions)
