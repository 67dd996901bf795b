"""The DEFT method as a library: files in, files out. It knows no database, HTTP, Celery, environment or teams.

Four functions are the public face (`deft.library` has them; torch is imported when the first is used):

    count_distribution    Q_diff of a preference data set under a tokenizer (M1-M3)
    score                 R_d of every response under any causal language model (M4-M5)
    select                the examples to keep, as a data set of the same kind (M6)
    reward_term           R_d of a batch with gradient, for one's own loss (M9)

They speak in `TokenOptions` (how texts become ids), `Distribution` and `ScoredRow`; docs/library.md says what is
stable.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deft.distribution import Distribution
    from deft.library import count_distribution, reward_term, score, select
    from deft.selection import ScoredRow
    from deft.specs import TokenOptions

__all__ = ["Distribution", "ScoredRow", "TokenOptions", "count_distribution", "reward_term", "score", "select"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- PEP 562
    if name in __all__:
        from deft import library

        return getattr(library, name)
    raise AttributeError(f"module 'deft' has no attribute {name!r}")
