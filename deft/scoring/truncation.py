"""How much of a data set the token limits cut off, counted in a sample of its rows. Torch-free, loads no model."""

from pathlib import Path
from typing import Any

from deft.data.splits import row_numbers
from deft.planning.lengths import UNCUT, sample_examples
from deft.planning.tokenizer import PlanningTokenizer
from deft.specs import TokenOptions
from deft.tokens import encode_examples

SAMPLE_ROWS = 2000


def truncation(
    folder: Path, tokenizer: PlanningTokenizer, options: TokenOptions, *, sample: int = SAMPLE_ROWS, seed: int = 0
) -> dict[str, Any]:
    """Return, as JSON, which share of prompts and of responses of the data set in *folder* is cut, and by how much.

    Counted in up to *sample* rows drawn with *seed*. The size of a chat template is approximated.

    Raises:
        InvalidInput: a row does not become tokens as *options* ask.
    """
    examples = sample_examples(folder, row_numbers(folder), sample, seed=seed)
    whole = encode_examples(examples, tokenizer, options.model_copy(update=UNCUT))
    prompts = [len(each.prompt_ids) for each in whole]
    rooms = [options.max_total_tokens - min(size, options.max_prompt_tokens) for size in prompts]
    lost = [max(0, len(ids) - room) for each, room in zip(whole, rooms, strict=True) for ids in each.response_ids]
    responses = sum(len(ids) for each in whole for ids in each.response_ids)
    return {
        "rows_sampled": len(whole),
        "max_prompt_tokens": options.max_prompt_tokens,
        "max_total_tokens": options.max_total_tokens,
        "share_of_prompts_cut": sum(size > options.max_prompt_tokens for size in prompts) / len(prompts),
        "share_of_responses_cut": sum(number > 0 for number in lost) / len(lost),
        "share_of_response_tokens_lost": sum(lost) / responses,
        "longest_prompt_tokens": max(prompts),
        "longest_response_tokens": max(len(ids) for each in whole for ids in each.response_ids),
    }
