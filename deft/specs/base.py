"""What all specs have in common: their rules as pydantic classes, and the names of numbers, ids and parts.

Knows no field of any spec.
"""

import unicodedata
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
Quantisation = Annotated[
    Literal["none", "nf4"],
    Field(
        description="Of the frozen base. nf4: its linear modules in four bits each, by bitsandbytes on the worker; "
        "less memory, other numbers, which say so and are not mixed with those of a whole base."
    ),
]


Named = TypeVar("Named", list[str], None)


def _each_once(value: Named) -> Named:
    names: list[str] = value or []
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"each of them once; {repeated[0]} is named more than once")
    return value


EachOnce = AfterValidator(_each_once)
"""Refuses a list in which a name stands twice."""


def is_blank(text: str) -> bool:
    """Whether nothing of *text* can be seen: blanks and the categories of control and format characters alone."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


class Spec(BaseModel):
    """The common rules of every spec: frozen, strict, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
