"""The dataset card of a subset: facts and counts, never a row. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

from deft.starts import Start

_CARD = """---
configs:
- config_name: default
  data_files: kept.parquet
tags:
- preference
- deft
---

# A subset selected by DEFT

{kept:,} of {scored:,} scored examples were kept; the dataset has {rows:,}.

| what | value |
|---|---|
| how many | {reason} |
| end | {end} |
| ranked by | {ranked_by} |
| Q_diff | {q_diff} |
| R_d under | {under} |
| value of the last kept example | {cut} |
| mean R_d of the chosen response: kept / scored | {mean_r_d_kept:.6g} / {mean_r_d_scored:.6g} |
| mean tokens of the chosen response: kept / scored | {mean_chosen_tokens_kept:.1f} / {mean_chosen_tokens_scored:.1f} |
| sources: kept / scored | {by_source} |

R_d, the distribution reward, is in nats. It correlates with length, and may tell sources apart before it tells rows:
compare the last two lines before crediting R_d with anything that length or source explains (`selection.quota`
sets the sources' shares).

- `kept.parquet`, `kept.jsonl`: the columns of the original file, in their order, and `deft_r_d`, `deft_rank` (1 is the
  first to be kept), `deft_kept`, `deft_source_line` (line or record number in the original file).
- `ledger.parquet`, `ledger.jsonl`: what became of every example, kept or not, and why.
- `examples.parquet`: the kept examples as prompt and responses, best first.
- `distribution.safetensors`: the token counts and Q_diff that R_d was computed with.
- `SHA256SUMS`: check the files with `sha256sum --check SHA256SUMS`.

```python
from datasets import load_dataset
kept = load_dataset("parquet", data_files="kept.parquet", split="train")
```
"""


def _distribution(summary: Mapping[str, Any]) -> str:
    found = "the scoring's own" if summary["distribution"] is None else f"that of {summary['distribution']}"
    if summary["aspects"] is None:
        return found
    return found + ", its aspects weighted " + ", ".join(f"{w:g} {name!r}" for name, w in summary["aspects"].items())


def _under(start: Mapping[str, Any] | None) -> str:
    return "a model that is not on record" if start is None else Start(**start).words()


def _by_source(sources: Sequence[Mapping[str, Any]]) -> str:
    named = [each for each in sources if each["source"] is not None]
    told = [
        f"{' '.join(each['source'].replace('|', '/').split())} {each['kept']:,} / {each['scored']:,}" for each in named
    ]
    return ", ".join(told) or "none is named"


def subset_card(summary: Mapping[str, Any]) -> str:
    """Return the card of the subset whose `subset.json` is *summary*."""
    by = {"random": f"a draw with seed {summary['seed']}", "length": "tokens of the chosen response"}
    cut = summary["cut_value"]
    return _CARD.format(
        **summary,
        ranked_by=by.get(summary["end"], f"R_d ({summary['by']})"),
        q_diff=_distribution(summary),
        under=_under(summary["scored_under"]),
        by_source=_by_source(summary["sources"]),
        cut="-" if cut is None else f"{cut:.6g}",
    )
