"""The metrics of a run, step by step: told to who listens, kept for the checkpoints, written as a TensorBoard file.

Knows numbers and names; it must not know what they mean. The event file is written when the run is through, so that an
output folder stays empty until there is an output; it has a name of its own instead of the usual one, which would
carry the machine's name into what is handed out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from deft.reports import Report

FILE_NAME = "events.out.tfevents.deft"
"""TensorBoard reads every file whose name holds `tfevents`."""

TAG_PREFIX = "train/"
"""As transformers names the metrics of training, so that runs of other trainers stand in the same charts."""


class Point(NamedTuple):
    """The metrics of one *step*, told at *at* (seconds since 1970)."""

    step: int
    at: float
    values: Mapping[str, float]


class History:
    """Every point of a run in order, those of the attempts before a resume included; *report* hears each new one."""

    def __init__(self, report: Report) -> None:
        self.points: list[Point] = []
        self._report = report

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep and tell *values*, those of *step*."""
        self.points.append(Point(step, time.time(), dict(values)))
        self._report.metrics(step, values)

    def parts(self) -> tuple[dict[str, Tensor], list[str]]:
        """Return all points as tensors (`step` [n], `at` [n], `values` [n, names], NaN where absent) and the names."""
        names = sorted({name for point in self.points for name in point.values})
        rows = [[point.values.get(name, math.nan) for name in names] for point in self.points]
        tensors = {
            "step": torch.tensor([point.step for point in self.points], dtype=torch.int64),
            "at": torch.tensor([point.at for point in self.points], dtype=torch.float64),
            "values": torch.tensor(rows, dtype=torch.float64).view(len(rows), len(names)),
        }
        return tensors, names

    def restore(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Put back what `parts` took apart; it is told to nobody again."""
        columns = tensors["step"].tolist(), tensors["at"].tolist(), tensors["values"].tolist()
        self.points = [Point(step, at, _named(names, row)) for step, at, row in zip(*columns, strict=True)]


def write_events(points: Iterable[Point], folder: Path) -> None:
    """Write *points* as a TensorBoard event file to the new folder *folder*."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir()
    with (folder / FILE_NAME).open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for point in points:
            values = [Summary.Value(tag=TAG_PREFIX + name, simple_value=v) for name, v in point.values.items()]
            event = Event(wall_time=point.at, step=point.step, summary=Summary(value=values))
            records.write(event.SerializeToString())


def _named(names: Sequence[str], row: Sequence[float]) -> dict[str, float]:
    return {name: value for name, value in zip(names, row, strict=True) if not math.isnan(value)}
