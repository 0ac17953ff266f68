"""Where and how a recipe runs: store, workers, runner, launcher, mesh and micro-batch of each training stage. Never in a fingerprint.

`CARAVAN_STORE` and `CARAVAN_RAW_ROOT` replace the fields `store` and `raw_root`, so that one file serves in several places.
Credentials are in the usual AWS variables, or in a Prefect block that `credentials_block` names; they are never in this file.

Folders that are not absolute (`store`, `raw_root`, `work_dir`, and the two variables) are below the current directory, not below this
file or each other; `~` is home.
"""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import Field, field_validator

from flows.recipe.reading import at_home, find_file, load
from storage.errors import ConfigError
from storage.store import Store
from storage.strict import Strict
from training.config import TrainExecution

# What would be a folder of that name in the current one, or the folder of another machine as one of this.
_NO_FOLDER = re.compile(r"file:(?!//[/~])|[a-z][a-z0-9+.-]+:/(?!/)", re.IGNORECASE)
_NO_BUCKET = re.compile(r"s3:(?!//[^/])", re.IGNORECASE)

TrainingStage = Literal["pretrain", "extend_context", "anneal"]


class Place(TrainExecution):
    """How one training stage runs, and from which step on."""

    first_step: int = Field(
        0, ge=0, description="first step that this mesh serves: an earlier one is refused, and only the phases from it on are checked"
    )

    @property
    def execution(self) -> TrainExecution:
        """What the trainer is told."""
        return TrainExecution(**self.model_dump(exclude={"first_step"}))


class Evaluation(Strict):
    """How `evaluate` and `export` run: as one process."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="where the checkpoint is evaluated")
    threads: int = Field(2, ge=1, description="OMP_NUM_THREADS")


class Execution(Strict):
    """Where and how; one recipe runs in many places."""

    store: str = Field(description="where artifacts and runs are: a folder, relative to the current directory, or s3://bucket/prefix")
    raw_root: str = Field(
        description="what the sources' paths are relative to: a folder, relative to the current directory, or s3://bucket/prefix"
    )
    work_dir: str = Field(
        ".caravan/work",
        validate_default=True,  # so that it is absolute, too: a child may work in another folder
        description="folder of this machine, relative to the current directory, for logs and metrics while they grow, by run",
    )
    durable: bool = Field(
        True,
        description="flush what is published in a folder to the disk before it is said to be there, so that a power cut loses nothing;"
        " false is faster, and safe against everything else",
    )
    workers: int = Field(2, ge=1, description="groups of data work at a time")
    runner: Literal["threads", "dask"] = Field("threads", description="threads: worker processes of this machine; dask: a Dask cluster")
    dask_address: str | None = Field(None, description="runner dask: the scheduler; without it a cluster is started on this machine")
    credentials_block: str | None = Field(
        None,
        description="Prefect block `secret/<name>` with AWS_* variables as a JSON object; put into the environment, never logged",
    )
    launcher: Literal["torchrun"] = Field("torchrun", description="how training starts: torchrun on this machine")
    max_attempts: int = Field(3, ge=1, description="tries of a training stage; each resumes from the newest checkpoint that verifies")
    attempt_timeout_s: float | None = Field(None, gt=0, description="a training attempt that runs longer is cancelled and counts as failed")
    training: dict[TrainingStage, Place] = Field({}, description="how each training stage runs; needed for those that run")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="how export and evaluate run")

    @field_validator("store", "raw_root")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        if _NO_BUCKET.match(value):
            raise ValueError("names no bucket; a store in S3 is s3://bucket/prefix")
        try:
            store = Store(value)
            return _folder(value.removeprefix("file://"), value) if store.is_local else value
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("work_dir")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("must be a folder of this machine")
        try:
            return _folder(value, value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def place(self, stage: TrainingStage) -> Place:
        """How a training stage runs. Raises ConfigError when this file does not say."""
        if stage not in self.training:
            raise ConfigError(
                f"execution.training has no {stage}, so nothing says how that stage runs: add it (there is "
                f"{', '.join(self.training) or 'no stage at all'}), or end before it with --to"
            )
        return self.training[stage]


def _folder(path: str, written: str) -> str:
    """The absolute path of a folder of this machine, which is `written` in the file. Raises ConfigError."""
    if not path.strip():
        raise ConfigError("names no folder; `.` is the current one")
    if _NO_FOLDER.match(written):
        raise ConfigError("names no folder of this machine; one is /folder, or file:///folder for a store, or ./folder in the current one")
    return str(at_home(path).absolute())


def load_execution(name: str) -> Execution:
    """The execution file of that path or name, with what the environment replaces. Raises ConfigError."""
    names = {"store": "CARAVAN_STORE", "raw_root": "CARAVAN_RAW_ROOT"}
    overrides = {field: os.environ[variable] for field, variable in names.items() if os.environ.get(variable)}
    return load(find_file(name, "execution"), Execution, overrides)
