import numpy as np
import pytest
import torch

from deft.evaluation.likelihoods import Pass, answer_sums, score_pairs, token_numbers
from deft.packing import Pack
from deft.reward import Head, direction_of, head_of, reward_from_logits
from deft.tokens import TokenizedExample
from tests.models import tiny_llama

END = 2


def _examples(number: int = 7) -> list[TokenizedExample]:
    draw = np.random.default_rng(0)

    def ids(most: int) -> list[int]:
        return draw.integers(3, 259, draw.integers(1, most)).tolist()

    return [TokenizedExample(ids(30), [ids(20), ids(20)], [False, i % 3 == 0]) for i in range(number)]


def _pass(model: torch.nn.Module, **options: object) -> Pass:
    q_diff = np.random.default_rng(1).normal(size=259)
    head = head_of(model)
    settings = {"shares_prompts": True, "direction": direction_of(head, q_diff - q_diff.mean())} | options
    return Pass(head, END, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("made up"), MemoryError()])
def test_pairs_and_answers_that_do_not_fit_together_are_looked_at_in_halves(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model, halved = tiny_llama(), []
    how = _pass(model, on_halving=halved.append)
    answers = [TokenizedExample(each.prompt_ids, each.response_ids[:1], [True]) for each in _examples()]
    expected = score_pairs(model, _examples(), how), divergences(model, answers, how)
    whole = Pack.hidden

    def hidden(pack: Pack, of: torch.nn.Module) -> torch.Tensor:
        if pack.responses > 4:
            raise error
        return whole(pack, of)

    monkeypatch.setattr(Pack, "hidden", hidden)
    found = score_pairs(model, _examples(), how)
    np.testing.assert_allclose(found.chosen_logp, expected[0].chosen_logp, rtol=0, atol=1e-4)
    np.testing.assert_allclose(divergences(model, answers, how), expected[1], rtol=0, atol=1e-4)
    assert halved[0] == len(_examples())


def divergences(model: torch.nn.Module, answers: list[TokenizedExample], how: Pass) -> list[float]:
    found = answer_sums(lambda pack: pack.hidden(model), lambda pack: 0.9 * pack.hidden(model), answers, how)
    return found.divergences or []


def _naive_logits(model: torch.nn.Module, prompt: list[int], response: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
    return logits[len(prompt) - 1 : len(prompt) + len(response) - 1]


def test_scores_are_those_of_one_response_at_a_time_and_count_the_end_token() -> None:
    model, examples = tiny_llama(), _examples()
    how = _pass(model)
    q_diff = np.random.default_rng(1).normal(size=259)
    found = score_pairs(model, examples, how)
    for index, example in enumerate(examples):
        for ids, is_cut, logp, tokens, r_d in zip(
            example.response_ids,
            example.is_cut,
            (found.chosen_logp[index], found.rejected_logp[index]),
            (found.chosen_tokens[index], found.rejected_tokens[index]),
            (found.r_d_chosen[index], found.r_d_rejected[index]),
            strict=True,
        ):
            whole = ids if is_cut else [*ids, END]
            logits = _naive_logits(model, example.prompt_ids, whole)
            expected = torch.log_softmax(logits, -1)[torch.arange(len(whole)), whole].sum().item()
            assert tokens == len(whole)
            assert logp == pytest.approx(expected, abs=1e-4)
            own = reward_from_logits(logits[: len(ids)], q_diff - q_diff.mean()).item()
            assert r_d == pytest.approx(own, abs=2e-7 * np.abs(q_diff).sum())  # float32's resolution of such a sum


@pytest.mark.parametrize("options", [{"token_budget": 1}, {"token_budget": 10_000}, {"shares_prompts": False}])
def test_scores_do_not_depend_on_batches_or_layout(options: dict) -> None:
    model, examples = tiny_llama(), _examples()
    expected = score_pairs(model, examples, _pass(model, token_budget=200))
    found = score_pairs(model, examples, _pass(model, **options))
    for name in ("chosen_logp", "rejected_logp", "r_d_chosen", "r_d_rejected"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.chosen_tokens, expected.chosen_tokens)


@pytest.mark.parametrize("options", [{}, {"token_budget": 1}, {"shares_prompts": False}])
def test_every_response_of_a_list_makes_a_pair_with_the_first(options: dict) -> None:
    model, pairs = tiny_llama(), _examples(5)
    lists = [
        pairs[0],
        *(
            TokenizedExample(e.prompt_ids, [*e.response_ids, ids], [*e.is_cut, False])
            for e, ids in zip(pairs[1:4], ([7, 8], [9], [4, 4, 4]), strict=True)
        ),
        pairs[4],
    ]
    found = score_pairs(model, lists, _pass(model, **options))
    assert found.row_of.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    for at, (row, place) in enumerate(zip(found.row_of, found.place_of_rejected, strict=True)):
        e = lists[row]
        pair = TokenizedExample(
            e.prompt_ids, [e.response_ids[0], e.response_ids[place]], [e.is_cut[0], e.is_cut[place]]
        )
        alone = score_pairs(model, [pair], _pass(model))
        assert found.chosen_logp[row] == pytest.approx(alone.chosen_logp[0], abs=1e-4)
        assert found.rejected_logp[at] == pytest.approx(alone.rejected_logp[0], abs=1e-4)
        assert found.rejected_tokens[at] == alone.rejected_tokens[0]
        assert found.r_d_rejected[at] == pytest.approx(alone.r_d_rejected[0], abs=1e-5)


def test_a_list_takes_as_many_rows_of_the_budget_as_it_has_responses() -> None:
    lists = [TokenizedExample([5, 6], [[7, 8]] * count, [False] * count) for count in (3, 3, 3, 2)]
    how = _pass(tiny_llama(), shares_prompts=False, token_budget=24)  # 3 rows of 4 tokens: two lists fit
    assert sorted(map(len, how.batches(lists))) == [2, 2]


def test_without_q_diff_there_is_no_r_d() -> None:
    model = tiny_llama()
    found = score_pairs(model, _examples(), _pass(model, direction=None))
    assert found.r_d_chosen is None


def test_progress_counts_every_example_and_may_stop() -> None:
    model, seen = tiny_llama(), []
    score_pairs(model, _examples(), _pass(model, token_budget=1), seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(KeyboardInterrupt):
        score_pairs(model, _examples(), _pass(model), lambda _: (_ for _ in ()).throw(KeyboardInterrupt))


def test_kl_and_entropy_by_hand() -> None:
    identity = Head(torch.eye(2))
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    entropy, divergence = token_numbers(p, q, (identity, identity))
    assert divergence.item() == pytest.approx(expected, abs=1e-6)
    assert entropy.item() == pytest.approx(np.log(2), abs=1e-6)
    assert token_numbers(p, p, (identity, identity))[1].item() == 0.0
    assert token_numbers(p, None, (identity, identity))[1].item() == 0.0


def test_kl_of_answers_is_summed_over_positions_whatever_the_batches() -> None:
    policy, base = tiny_llama(seed=0), tiny_llama(seed=1)
    base.load_state_dict(
        {k: v if k != "lm_head.weight" else policy.lm_head.weight for k, v in base.state_dict().items()}
    )
    examples = [TokenizedExample(e.prompt_ids, [e.response_ids[0]], [True]) for e in _examples(4)]
    examples.append(TokenizedExample([5, 6], [[]], [True]))
    for budget in (1, 10_000):
        how = _pass(policy, token_budget=budget)
        sums = answer_sums(lambda pack: pack.hidden(policy), lambda pack: pack.hidden(base), examples, how)
        found = sums.divergences or []
        for value, example in zip(found, examples, strict=True):
            ids = example.response_ids[0]
            log_p, log_q = (_naive_logits(m, example.prompt_ids, ids).log_softmax(-1) for m in (policy, base))
            assert value == pytest.approx((log_p.exp() * (log_p - log_q)).sum().item(), rel=1e-4, abs=1e-5)
    assert found[-1] == 0.0
