"""What an operator sets: environment variables with the prefix DEFT_, read once, when `Settings()` is called.

It must not connect to anything and must not create a folder.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

GIB = 1024**3
MIB = 1024**2
ResourceClass = Literal["cpu", "gpu", "gpu-node"]
"""What a worker serves: jobs without a model; with one, a GPU a slot; the same, one at a time with all GPUs."""

JobClass = Literal["cpu", "gpu"]
"""What a job needs."""

DatabaseUrl = Annotated[str, Field(min_length=1)]
Listed = Annotated[list[Path], NoDecode]
ListedClasses = Annotated[list[ResourceClass], NoDecode]


def _both_classes() -> list[ResourceClass]:
    return ["cpu", "gpu"]


EndpointName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]


class EndpointSettings(BaseModel):
    """An OpenAI-compatible endpoint: its address up to and with `/v1`, and its key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://")
    key: SecretStr = SecretStr("none")


class Settings(BaseSettings):
    """Settings of every process of the service; the defaults are those of `deft serve` on one machine."""

    model_config = SettingsConfigDict(env_prefix="DEFT_", frozen=True, extra="ignore")

    data_folder: Path = Field(
        Path("deft-data"), description="Artifacts, checkpoints, the SQLite file, the bell's files."
    )
    database_url: DatabaseUrl | None = Field(None, description="postgresql://... or sqlite:///...; null: SQLite there.")
    broker_url: str = Field("filesystem://", description="redis://... in production.")
    model_roots: Listed = Field(
        default_factory=list, description="Folders below which base models may lie, separated like PATH."
    )
    bootstrap_key: SecretStr | None = Field(None, description="The first team's key; null: made and printed once.")
    max_upload_bytes: int = Field(2 * GIB, ge=1)
    max_body_bytes: int = Field(MIB, ge=1)
    lease_seconds: float = Field(30, gt=0)
    renew_seconds: float = Field(10, gt=0)
    sweep_seconds: float = Field(10, gt=0)
    stop_grace_seconds: float = Field(
        30, gt=0, description="How long a process that was asked to stop may take to reach a safe point."
    )
    silence_seconds: float = Field(
        1800, gt=0, description="A process that says nothing for this long is ended, and its job tried again."
    )
    slots: int = Field(1, ge=1, description="Jobs that one worker process runs at a time.")
    train_processes: int = Field(
        1, ge=1, description="Processes of a training job, one a GPU; more than 1 needs a worker of one slot."
    )
    resource_classes: ListedClasses = Field(
        default_factory=_both_classes,
        description="What a worker serves, separated by commas; gpu-node: one job at a time with all GPUs of the "
        "machine, a training in one process a GPU.",
    )
    shard_rows: int = Field(
        32_768,
        ge=1,
        description="A scoring of more rows is divided into jobs of at most so many, which any worker takes; a "
        "multiple of 4,096 gives the bits of one that is not divided.",
    )
    endpoints: dict[EndpointName, EndpointSettings] = Field(
        default_factory=dict,
        description="OpenAI-compatible endpoints that jobs may name, as JSON: {NAME: {url, key}}; a worker's own. No "
        "answer, log or child but that of a job which names it ever holds the key.",
    )
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split_path(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_gpus_for_its_processes(self) -> "Settings":
        if self.train_processes > 1 and self.slots > 1:
            raise ValueError("DEFT_TRAIN_PROCESSES above 1 needs DEFT_SLOTS=1: each of several slots has one GPU")
        if self.is_gpu_node and ("gpu" in self.resource_classes or self.slots > 1 or self.train_processes > 1):
            raise ValueError(
                "DEFT_RESOURCE_CLASSES=gpu-node gives all GPUs to one job: it needs DEFT_SLOTS=1, no class gpu beside "
                "it and no DEFT_TRAIN_PROCESSES, which is then the number of GPUs"
            )
        return self

    @field_validator("data_folder")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # processes with another working folder mean the same place

    @field_validator("resource_classes", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @property
    def is_gpu_node(self) -> bool:
        """Whether a worker gives all GPUs of its machine to one job."""
        return "gpu-node" in self.resource_classes

    @property
    def job_classes(self) -> list[JobClass]:
        """The classes of the jobs that a worker takes."""
        return ["cpu" if each == "cpu" else "gpu" for each in self.resource_classes]

    @property
    def resolved_database_url(self) -> str:
        """The database's URL; by default a SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{self.data_folder.resolve() / 'deft.sqlite3'}"

    @property
    def artifact_folder(self) -> Path:
        """Where artifacts lie, one folder each, named by their id."""
        return self.data_folder / "artifacts"

    @property
    def staging_folder(self) -> Path:
        """Where attempts and uploads write before anything is published; same file system as the artifacts."""
        return self.data_folder / "staging"

    @property
    def checkpoint_folder(self) -> Path:
        """Where resume states lie: one folder a job, named by its id."""
        return self.data_folder / "checkpoints"

    @property
    def cache_folder(self) -> Path:
        """What a worker's jobs keep for each other, a folder a team; it may be lost at any time."""
        return self.data_folder / "cache"

    @property
    def model_folder(self) -> Path:
        """Where models of the Hub are kept once a worker has fetched them."""
        return self.data_folder / "models"

    @property
    def bell_folder(self) -> Path:
        """Where the embedded broker keeps its messages."""
        return self.data_folder / "bell"
