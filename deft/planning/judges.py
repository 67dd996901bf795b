"""What a reward model costs in a plan, from its config.json alone. Pure arithmetic.

Decoders are counted as the planner counts policies; of encoders the families below, whose layers are four projections
of the width and an MLP. Embeddings and the head of one label are left out.
"""

from collections.abc import Mapping
from typing import Any

from deft.planning.shapes import shape_of, size_in
from deft.planning.work import Counter

MLP_PROJECTIONS = {
    **dict.fromkeys(("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"), 2),
    "modernbert": 3,
}
"""Encoders by `model_type`: how many matrices of width times inner width the MLP of a layer has."""

_NAMES = {"distilbert": ("dim", "n_layers", "hidden_dim")}
_USUAL = ("hidden_size", "num_hidden_layers", "intermediate_size")


def reading_flops(config: Mapping[str, Any], tokens: float) -> float | None:
    """Return the FLOPs of reading one text of *tokens*; None: the family or its sizes are not known."""
    model_type = str(config.get("model_type"))
    if model_type not in MLP_PROJECTIONS:
        shape = shape_of(config)
        return None if shape is None else Counter(shape, 0, is_shared=False).read(tokens)
    width, layers, inner = (size_in(config.get(name)) for name in _NAMES.get(model_type, _USUAL))
    if width is None or layers is None or inner is None:
        return None
    dense = 4 * width**2 + MLP_PROJECTIONS[model_type] * width * inner
    return layers * tokens * (2.0 * dense + 4.0 * width * tokens)
