"""How a scoring calls what its model computed in. Torch-free; knows names only."""

from deft.specs import Quantisation

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""The dtype of each precision but `auto`, which the device decides."""


def numbers_named(dtype: str, quantisation: Quantisation) -> str:
    """Return what a base's results depend on besides its weights: the name of a dtype, or `nf4/bfloat16`."""
    return dtype if quantisation == "none" else f"{quantisation}/{dtype}"
