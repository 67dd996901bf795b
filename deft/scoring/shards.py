"""A scoring in shards: count once, score contiguous ranges of its rows apart, merge. Torch-free.

Three internal kinds of job, made by the service (`store.sharding`) and run like any other; nobody can post them, but
`python -m deft` runs them too. Each holds the spec of the scoring that it is a part of. What they do is in
`deft.scoring.run` and `deft.scoring.merge`.
"""

from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from deft.budgets import SCORING_WINDOW
from deft.specs import Id, OperationSpec, PipelineSpec, ScoreSpec, Spec


class ScoreCountSpec(Spec):
    """Count Q_diff (M1-M3) for a scoring, once for all its shards."""

    kind: Literal["score_count"] = "score_count"
    name: str | None = None
    score: ScoreSpec

    @property
    def dataset(self) -> str:
        """The data set that is scored."""
        return self.score.dataset

    @property
    def model(self) -> str:
        """The model whose tokens are counted."""
        return self.score.model


class ScoreShardSpec(Spec):
    """Score the rows from *start* to *stop* (exclusive) in the order of `splits.chosen_rows`."""

    kind: Literal["score_shard"] = "score_shard"
    name: str | None = None
    score: ScoreSpec
    counted: Id
    start: int = Field(ge=0)
    stop: int = Field(ge=1)

    @property
    def dataset(self) -> str:
        """The data set that is scored."""
        return self.score.dataset

    @property
    def model(self) -> str:
        """The model that scores."""
        return self.score.model

    @property
    def adapter(self) -> str | None:
        """The adapter that the model scores with."""
        return self.score.adapter

    @property
    def extends(self) -> str | None:
        """The earlier scoring whose states are taken over."""
        return self.score.extends


class ScoreMergeSpec(Spec):
    """Put the *parts*, in the order of their rows, together into one scoring; loads no model."""

    kind: Literal["score_merge"] = "score_merge"
    name: str | None = None
    score: ScoreSpec
    counted: Id
    parts: list[Id] = Field(min_length=1)

    @property
    def dataset(self) -> str:
        """The data set that is scored."""
        return self.score.dataset


ShardSpec = ScoreCountSpec | ScoreShardSpec | ScoreMergeSpec
AnyOperation = OperationSpec | ShardSpec
StoredSpec = Annotated[AnyOperation | PipelineSpec, Field(discriminator="kind")]
stored_spec: TypeAdapter[StoredSpec] = TypeAdapter(StoredSpec)


class Range(NamedTuple):
    """Rows from *start* to *stop* (exclusive), counted in the order in which a scoring visits them."""

    start: int
    stop: int


def ranges(rows: int, shard_rows: int) -> list[Range]:
    """Divide *rows* into ranges of at most *shard_rows* rows, as equal as they can be; one range: no shards.

    Where *shard_rows* is a multiple of the window in which rows are packed into forward passes, so is every start: each
    pass is then the same as without shards, and so are its bits.
    """
    unit = SCORING_WINDOW if shard_rows % SCORING_WINDOW == 0 else 1
    units = -(-rows // unit)
    count = -(-units * unit // shard_rows)
    bounds = [min(units * index // count * unit, rows) for index in range(count + 1)]
    return [Range(start, stop) for start, stop in pairwise(bounds)]
