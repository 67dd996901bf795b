"""How many random rows cost to train on what `deft` costs with its scoring: the arm `random_equal_cost`.

In calculated FLOPs, from the model's config.json and the lengths of the rows, as a plan has them. Knows the planner; no
job.
"""

from deft.arms import EQUAL_COST
from deft.errors import Finding, InvalidInput
from deft.planning.plan import Planner
from deft.specs import ArmName, PipelineSpec

PAID = ("score", "measure_omega", "train:deft")
"""What `deft` could not have done without, by the names of child jobs."""


def settled(spec: PipelineSpec, planner: Planner) -> PipelineSpec:
    """Return *spec* with `equal_cost_count`, where it has that arm and leaves the number open.

    *planner* knows the model and the rows, and is left as it is.

    Raises:
        InvalidInput: the cost is not known; and what planning refuses.
    """
    if EQUAL_COST not in spec.arms or spec.equal_cost_count is not None:
        return spec
    both: list[ArmName] = ["deft", "random"]
    trial = Planner(planner.model, planner.data, outputs=dict(planner.outputs))
    trial.plan(spec.model_copy(update={"arms": both, "random_draws": 1}))
    work = {cost.work.name: cost.work for cost in trial.costs}
    scored, random = trial.facts.scored, work.get("train:random")
    if scored is None or scored.rows is None or random is None or not random.rows or "score" not in work:
        raise _not_known()
    spent = sum(work[name].flops for name in PAID if name in work)
    rows = int(spent / (random.flops / random.rows))
    return spec.model_copy(update={"equal_cost_count": max(1, min(rows, scored.rows))})


def _not_known() -> InvalidInput:
    finding = Finding(
        code="cost_not_known",
        pointer="/arms",
        found=f"{EQUAL_COST} of a model whose cost is not known before it is here, or whose family is not counted",
        expected="a number of rows",
        fix="give `equal_cost_count`, or leave the arm out",
    )
    return InvalidInput("The rows of random_equal_cost cannot be calculated.", code=finding.code, findings=[finding])
