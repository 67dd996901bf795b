"""The runs of the experiment, as docs/experiments/PLAN.md registers them. Pure: it knows no file and no model.

A cell is one way to train; a run is a cell with a learning rate and a seed. Each cell differs from `deft`, or from
`no_reward_term`, in one thing. At most 40 runs, which a test counts.
"""

from dataclasses import dataclass
from typing import Literal

SOURCES = ("hh_rlhf", "paradetox", "finegrained_rlhf")
TRAIN_ROWS, DEVELOPMENT_ROWS, TEST_ROWS = 300, 60, 200
"""Of each source."""
ROWS_OF_A_PROMPT = 2
"""At most, so that a source with few prompts does not count as if it had many."""
LONGEST_ROW = 1000
"""Characters of prompt and both responses together, beyond which a row is left out: the runs have to end in hours."""

LEARNING_RATES = (1e-4, 3e-4, 1e-3)
SEEDS = (0, 1, 2)
EPOCHS, BATCH = 3, 8
KEEP = 0.05
HEAVY_DRIFT = 0.5
"""Nats a token of fall of log p(chosen) on the development split, beyond which a learning rate is not chosen."""

End = Literal["lowest", "highest", "random", "length"]
Omega = Literal["none", "auto", "ten_times"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to train: which *end* of R_d is kept, how much of it, and the reward term."""

    name: str
    end: End
    omega: Omega
    keep: float = KEEP


TWO_BY_TWO = (
    Cell("deft", "lowest", "auto"),
    Cell("no_reward_term", "lowest", "none"),
    Cell("random_with_term", "random", "auto"),
    Cell("random", "random", "none"),
)
OPPOSITE = Cell("opposite", "highest", "auto")
LENGTH = Cell("length", "length", "auto")
TUNED = (*TWO_BY_TWO, OPPOSITE, LENGTH)
"""Cells with a learning rate of their own, chosen on the development split with seed 0."""
REPEATED = (*TWO_BY_TWO, OPPOSITE)
"""Cells with all seeds."""
ONE_FACTOR = (
    Cell("keep_10", "lowest", "auto", 0.10),
    Cell("keep_25", "lowest", "auto", 0.25),
    Cell("keep_50", "lowest", "auto", 0.50),
    Cell("keep_100", "lowest", "auto", 1.00),
    Cell("omega_ten_times", "lowest", "ten_times"),
    Cell("full", "lowest", "none", 1.00),
)
"""One thing other than in `deft` (`full`: than in `no_reward_term`), at its learning rate, with seed 0."""
CELLS = (*TUNED, *ONE_FACTOR)
FAMILY = (
    ("deft", "random"),
    ("no_reward_term", "random"),
    ("deft", "no_reward_term"),
    ("random_with_term", "random"),
    ("deft", "opposite"),
)
"""The comparisons that were named before the runs; Holm's correction is over these."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training."""

    cell: Cell
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Return the name of its folders."""
        return f"{self.cell.name}-lr{self.learning_rate:g}-seed{self.seed}"


def tuning() -> list[Run]:
    """Return the runs that learning rates are chosen by; the chosen one of a cell is its run of seed 0."""
    return [Run(cell, rate, SEEDS[0]) for cell in TUNED for rate in LEARNING_RATES]


def runs_of(cell: Cell, rates: dict[str, float]) -> list[Run]:
    """Return the runs of *cell* that are tested, given the chosen learning *rates* of the tuned cells."""
    rate = rates[cell.name if cell in TUNED else owner_of(cell)]
    seeds = SEEDS if cell in REPEATED else SEEDS[:1]
    return [Run(cell, rate, seed) for seed in seeds]


def owner_of(cell: Cell) -> str:
    """Return the cell that *cell* differs from in one thing."""
    return "no_reward_term" if cell.omega == "none" else "deft"


def all_runs(rates: dict[str, float]) -> list[Run]:
    """Return every run there is, each once."""
    return list(dict.fromkeys([*tuning(), *(run for cell in CELLS for run in runs_of(cell, rates))]))


def chosen(scores: dict[Run, tuple[float, float]]) -> dict[str, float]:
    """Return the learning rate of each tuned cell: the most accurate without heavy drift, of equal ones the lowest.

    *scores* are accuracy and change of log p(chosen) a token on the development split. Where every rate drifts
    heavily, it is the lowest.
    """
    found = {}
    for cell in TUNED:
        own = sorted((run.learning_rate, *scores[run]) for run in scores if run.cell == cell)
        sound = [each for each in own if each[2] > -HEAVY_DRIFT] or own[:1]
        found[cell.name] = max(sound, key=lambda each: (each[1], -each[0]))[0]
    return found
