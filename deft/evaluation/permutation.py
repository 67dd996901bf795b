"""Is a difference more than chance? The names of the two sides are swapped prompt by prompt. Numpy and scipy only.

Were the two alike, each prompt's difference could as well have had the other sign (Fisher 1935; with all rows of a
prompt swapped together). Few prompts are enumerated, more are sampled, very many are taken as normal.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

EXACT = 12
"""Prompts that differ, up to which all signs are tried (4,096 of them)."""
SAMPLED = 500
"""Prompts that differ, up to which signs are drawn; beyond, their sum is normal to three digits of p."""
FLIPS = 9_999
_CHUNK = 4_000_000
_ROUNDING = 1e-9


def sign_flip_p(prompts: Array, luck: Array | None = None, *, seed: int = 0) -> float:
    """Return the two-sided p of mean(*prompts*) = 0, *prompts* [C] being the difference on each prompt.

    *luck* is a sample of what chance draws of arms add to the difference of means; without it the test is exact for few
    prompts that differ, and holds its level for any number (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    clusters = len(prompts)
    size = np.abs(prompts)
    own = prompts[size > _ROUNDING * size.max(initial=0.0)]
    if len(own) <= EXACT and luck is None:
        return _share(_all_signs(len(own)) @ own, own.sum())
    generator = np.random.default_rng([seed, 3])
    if len(own) > SAMPLED:
        deviation = float(np.sqrt((own**2).sum()))
        if luck is None:
            return float(2 * stats.norm.sf(abs(own.sum()) / deviation)) if deviation else 1.0
        sums = generator.normal(scale=deviation, size=FLIPS)
    else:
        sums = _flipped(own, generator)
    if luck is not None:
        sums += clusters * np.resize(generator.permutation(luck), FLIPS)
    return (_share(sums, own.sum()) * FLIPS + 1) / (FLIPS + 1)


def _share(sums: Array, observed: float) -> float:
    """Return how many of *sums* are at least as far from 0 as the *observed* one, as a share."""
    return float((np.abs(sums) >= abs(observed) * (1 - _ROUNDING)).mean())


def _all_signs(size: int) -> Array:
    """Return all combinations of signs: [2 ** size, size]."""
    bits = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    signs: Array = (2 * bits - 1).astype(np.float64)
    return signs


def _flipped(own: Array, generator: np.random.Generator) -> Array:
    """Return the sum of *own* [m] under `FLIPS` random signs."""
    step = max(1, _CHUNK // max(1, len(own)))
    sizes = [min(step, FLIPS - start) for start in range(0, FLIPS, step)]
    return np.concatenate(
        [2.0 * (generator.integers(2, size=(n, len(own)), dtype=np.int8) @ own) - own.sum() for n in sizes]
    )
