"""M12, torch-free: which aspects of rows are kept apart, and whether weights fit them. Knows names only, no counts."""

from collections.abc import Collection, Mapping

from deft.errors import Finding, InvalidInput, shown

MAX_ASPECTS = 32


def kept_apart(names: Collection[str]) -> list[str]:
    """Return which of the distinct aspects *names* ("": rows without one) are counted apart: all, sorted, or none.

    None where no row has an aspect, or there are more than 32 of them.
    """
    return [] if set(names) <= {""} or len(names) > MAX_ASPECTS else sorted(names)


def used_weights(weights: Mapping[str, float], aspects: Collection[str]) -> dict[str, float]:
    """Return the *weights* that are not 0, all of which must be of *aspects*.

    Raises:
        InvalidInput: a weight is of no aspect, or all are 0.
    """
    used = {name: weight for name, weight in weights.items() if weight}
    unknown = sorted(name for name in weights if name not in aspects)
    if used and not unknown:
        return used
    known = ", ".join(f"`{shown(name)}`" for name in sorted(aspects))
    finding = Finding(
        code="unknown_aspect" if unknown else "no_weight",
        pointer="/aspects",
        found=shown(", ".join(name or "the empty name" for name in unknown)) if unknown else "weights that are all 0",
        expected=f"weights of {known}, one above 0" if known else "no weights: rows without aspect, or with too many",
        fix="weigh aspects that the rows have" if known else "leave them out, or upload rows with the column `aspect`",
    )
    message = f"The weights of the aspects cannot be used: found {finding.found}."
    raise InvalidInput(message, code=finding.code, findings=[finding])
