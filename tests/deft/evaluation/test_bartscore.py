"""BARTScore of a random BART against the sum written out naively, text by text."""

from pathlib import Path

import pytest
import torch

from deft.errors import ModelNotUsable
from deft.evaluation.bartscore import BartScorer, load_bart
from tests.models import save_tiny_bart, save_tiny_llama

PAIRS = [("a cat sat", "the cat sat down"), ("yes", "no, never at all"), ("", "x"), ("some words", "")]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> BartScorer:
    return load_bart(save_tiny_bart(tmp_path_factory.mktemp("bart")))


def _naive(scorer: BartScorer, source: str, target: str) -> float:
    """Predict every token of the target, one forward pass each, from what stands before it."""
    ids = [torch.tensor([scorer.tokenizer(text)["input_ids"]]) for text in (source, target)]
    start = scorer.model.config.decoder_start_token_id
    total = 0.0
    with torch.no_grad():
        for place, token in enumerate(ids[1][0].tolist()):
            before = torch.tensor([[start, *ids[1][0, :place].tolist()]])
            logits = scorer.model(input_ids=ids[0], decoder_input_ids=before).logits[0, -1]
            total += float(torch.log_softmax(logits, dim=-1)[token])
    return total / ids[1].shape[1]


def test_it_is_the_mean_log_probability_of_the_target(scorer: BartScorer) -> None:
    found = scorer.log_likelihoods(*zip(*PAIRS, strict=True))
    expected = [_naive(scorer, source, target) for source, target in PAIRS]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    turned = scorer.log_likelihoods([target for _, target in PAIRS], [source for source, _ in PAIRS])
    assert abs(turned - found).max() > 0.01, "the directions differ"


def test_long_texts_are_cut_to_the_context(scorer: BartScorer) -> None:
    (found,) = scorer.log_likelihoods(["word " * 100], ["word " * 200])
    (same,) = scorer.log_likelihoods(["word " * 100 + "tail"], ["word " * 200 + "tail"])
    assert found == same


def test_a_causal_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotUsable, match="encoder-decoder"):
        load_bart(save_tiny_llama(tmp_path))
