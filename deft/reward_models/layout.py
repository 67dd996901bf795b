"""What a reward model reads of a prompt and a response: token ids, as its kind of model was trained to see them.

An encoder gets a pair, `[CLS] prompt [SEP] response [SEP]`; a decoder prompt, response and its end token, in one
sequence. Knows tokenizers and examples; no model.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deft.errors import InvalidInput
from deft.examples import Example
from deft.specs import TokenOptions
from deft.tokens import end_token_id, iter_encoded, tokenizer_hash, transcript_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

Layout = Literal["pair", "sequence"]


@dataclass(frozen=True, slots=True)
class Sequences:
    """The sequences of one example, a response each.

    Token *ids*, their *types* (None: the model has none), and how many of them are the response's own.
    """

    ids: list[list[int]]
    types: list[list[int]] | None
    response_tokens: list[int]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(map(len, self.ids))


def layout_of(tokenizer: "Tokenizer") -> Layout:
    """Return `pair` for the tokenizer of an encoder, which has a CLS token, else `sequence`."""
    return "sequence" if tokenizer.cls_token_id is None else "pair"


def options_for(tokenizer: "Tokenizer", context_tokens: int | None) -> TokenOptions:
    """Return how a reward model that is not ours reads: by its chat template where it has one, 1,024 tokens at most."""
    total = min(1024, context_tokens or 1024)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    return TokenOptions(
        max_prompt_tokens=3 * total // 4, max_total_tokens=total, template="chat" if has_template else "auto"
    )


def reading_hash(tokenizer: "Tokenizer") -> str:
    """Return the SHA-256 (hex) of all of *tokenizer* that decides what a classifier or an encoder-decoder reads.

    That is what decides ids, and what its hash leaves out: the pad token, by which a decoder's classifier finds the
    last token, the CLS token and the inputs, which are the layout, and the side on which it cuts a text.
    """
    own = [tokenizer_hash(tokenizer), tokenizer.pad_token_id, tokenizer.cls_token_id]
    own += [tokenizer.model_input_names, tokenizer.truncation_side]
    return hashlib.sha256(json.dumps(own).encode()).hexdigest()


def lay_out(examples: Sequence[Example], tokenizer: "Tokenizer", options: TokenOptions) -> list[Sequences]:
    """Return the sequences of *examples*; prompts are cut on the left, responses on the right. A response may be empty.

    Raises:
        InvalidInput: the tokenizer cannot lay out a prompt as *options* asks, or is none of the Rust ones.
    """
    if layout_of(tokenizer) == "pair":
        return [_pairs(example, tokenizer, options) for example in examples]
    return list(_in_sequence(examples, tokenizer, options))


def _in_sequence(examples: Iterable[Example], tokenizer: "Tokenizer", options: TokenOptions) -> Iterable[Sequences]:
    end = end_token_id(tokenizer)
    for found in iter_encoded(examples, tokenizer, options, allows_empty=True):
        pairs = zip(found.response_ids, found.is_cut, strict=True)
        ids = [[*found.prompt_ids, *own, *([] if is_cut else [end])] for own, is_cut in pairs]
        yield Sequences(ids, None, [len(own) for own in found.response_ids])


def _pairs(example: Example, tokenizer: "Tokenizer", options: TokenOptions) -> Sequences:
    """Lay out prompt and response as the tokenizer's own template for two texts says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InvalidInput("the tokenizer of this encoder has no tokenizer.json: save it with a fast tokenizer")
    backend.no_truncation()
    backend.no_padding()
    room = options.max_total_tokens - backend.num_special_tokens_to_add(True)
    prompt = backend.encode(transcript_of(example.prompt), add_special_tokens=False)
    prompt.truncate(min(options.max_prompt_tokens, room), direction="left")
    ids, types, sizes = [], [], []
    for response in example.responses:
        answer = backend.encode(response, add_special_tokens=False)
        answer.truncate(max(0, room - len(prompt.ids)), direction="right")
        both = backend.post_process(prompt, answer, add_special_tokens=True)
        ids.append(both.ids)
        types.append(both.type_ids)
        sizes.append(len(answer.ids))
    has_types = "token_type_ids" in tokenizer.model_input_names
    return Sequences(ids, types if has_types else None, sizes)
