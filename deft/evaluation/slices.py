"""Measurements of parts of the rows: one slice a source. It must not know files, models or what a metric counts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from deft.evaluation.intervals import cluster_sums
from deft.evaluation.metrics import ByRow, Measurement

MOST_SLICES = 32
"""Sources with the most rows that get a slice of their own."""


def by_source(measurements: Iterable[Measurement], sources: Sequence[str | None]) -> list[Measurement]:
    """Return each measurement again for the rows of each source, as the slice `source:<name>`.

    *sources* [n] are those of the measured rows; nothing comes of rows that all have the same. Rows without a source
    are the slice `source:`.
    """
    names = [source or "" for source in sources]
    if len(set(names)) < 2:
        return []
    places = {name: np.flatnonzero(np.array(names) == name) for name, _ in Counter(names).most_common(MOST_SLICES)}
    return [
        _slice(measurement, f"source:{name}", own)
        for measurement in measurements
        if measurement.by_row is not None
        for name, own in places.items()
    ]


def _slice(measurement: Measurement, name: str, places: np.ndarray) -> Measurement:
    """Return *measurement* of the rows at *places* alone."""
    rows = measurement.by_row
    if rows is None:
        raise AssertionError("only a measurement that knows its rows has slices")
    own = ByRow(rows.columns[places], [rows.clusters[place] for place in places], rows.counts[places])
    sums = cluster_sums(own.columns, own.clusters)
    return replace(measurement, sums=sums, n=int(own.counts.sum()), slice=name, by_row=own)
