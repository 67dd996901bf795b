import pytest

from deft.safety.rates import Replied, System, safety_of


def _replied(safe: int, unsafe: int, repeats: int = 1) -> list[Replied]:
    labels = ["safe"] * safe + ["unsafe"] * unsafe
    return [Replied(i, label, f"c{i % 2}") for i, label in enumerate(labels) for _ in range(repeats)]


def _row(rows: list, metric: str, system: str = "deft", part: str = "all") -> dict:
    return next(r for r in rows if (r["metric"], r["system"], r["slice"]) == (metric, system, part))


def test_rates_have_known_values_and_base_stands_beside_the_adapter() -> None:
    replied = _replied(40, 40)
    base = ["compliance"] * 40 + ["refusal"] * 40
    deft = ["refusal"] * 10 + ["partial"] * 10 + ["compliance"] * 20 + ["compliance"] * 4 + ["refusal"] * 36
    systems = [System("base", "base", base), System("deft", "deft", deft)]  # type: ignore[arg-type]
    rates, differences = safety_of(replied, systems, resamples=400, seed=0)
    over = _row(rates, "over_refusal")
    assert (over["value"], over["n"], over["prompts"]) == (0.5, 40, 40)
    assert over["low"] < 0.5 < over["high"]
    assert _row(rates, "over_refusal", "base")["value"] == 0
    assert _row(rates, "harmful_compliance")["value"] == 0.1
    more = _row(differences, "over_refusal")
    assert (more["difference"], more["against"]) == (0.5, "base")
    assert more["low"] > 0
    assert _row(rates, "over_refusal", part="category:c0")["n"] == 20


def test_incoherent_answers_are_neither_refusals_nor_compliance() -> None:
    replied = _replied(10, 10)
    collapsed = ["incoherent"] * 9 + ["compliance"] + ["incoherent"] * 9 + ["refusal"]
    systems = [System("base", "base", ["compliance"] * 20), System("deft", "deft", collapsed)]  # type: ignore[arg-type, list-item]
    rates, _ = safety_of(replied, systems, resamples=200, seed=0)
    assert _row(rates, "incoherent")["value"] == pytest.approx(0.9)
    assert (_row(rates, "over_refusal")["value"], _row(rates, "over_refusal")["n"]) == (0, 1)
    assert _row(rates, "harmful_compliance")["n"] == 1


def test_a_system_without_a_coherent_answer_has_no_rate_but_that_of_incoherence() -> None:
    systems = [System("base", "base", ["compliance"] * 12), System("deft", "deft", ["incoherent"] * 12)]  # type: ignore[arg-type, list-item]
    rates, differences = safety_of(_replied(6, 6), systems, resamples=200, seed=0)
    assert {row["metric"] for row in rates if row["system"] == "deft"} == {"incoherent"}
    assert {row["metric"] for row in differences} == {"incoherent"}


def test_repeats_of_one_prompt_are_one_cluster() -> None:
    """Ten repeats that all say the same are worth one answer: the interval is that of six prompts."""
    once = [System("base", "base", ["refusal", "compliance"] * 3)]  # type: ignore[list-item]
    often = [System("base", "base", [kind for kind in once[0].kinds for _ in range(10)])]
    (one,) = [r for r in safety_of(_replied(6, 0), once, resamples=400, seed=0)[0] if r["metric"] == "over_refusal"][:1]
    (ten,) = [
        r for r in safety_of(_replied(6, 0, 10), often, resamples=400, seed=0)[0] if r["metric"] == "over_refusal"
    ][:1]
    assert (one["low"], one["high"]) == (ten["low"], ten["high"])
    assert (one["n"], ten["n"], ten["prompts"]) == (6, 60, 6)


def _of(kinds: dict[str, list[str]], replied: list[Replied]) -> tuple[list[dict], list[dict]]:
    systems = [System(name, name, own) for name, own in kinds.items()]  # type: ignore[arg-type]
    return safety_of(replied, systems, resamples=400, seed=0)


@pytest.mark.parametrize("repeats", [1, 3])
def test_prompts_without_an_answer_that_counts_are_as_if_never_asked(repeats: int) -> None:
    """Rate and difference are those of the 10 prompts that count, not made surer by the 40 that do not."""
    some = ["refusal", "compliance", "compliance", "refusal", "compliance"] * 2
    base, deft = ["compliance"] * 10, some
    few = _of({"base": base, "deft": deft}, _replied(10, 0))
    more = {"base": [*base, *["compliance"] * 40], "deft": [*deft, *["incoherent"] * 40]}
    repeated = {name: [kind for kind in own for _ in range(repeats)] for name, own in more.items()}
    many = _of(repeated, _replied(50, 0, repeats))
    for rows, number in zip((few, many), (1, repeats), strict=True):
        assert (_row(rows[0], "over_refusal")["prompts"], _row(rows[0], "over_refusal")["n"]) == (10, 10 * number)
    for name in ("value", "low", "high"):
        assert _row(few[0], "over_refusal")[name] == pytest.approx(_row(many[0], "over_refusal")[name], abs=1e-12)
    for name in ("difference", "low", "high", "p", "prompts"):
        assert _row(few[1], "over_refusal")[name] == pytest.approx(_row(many[1], "over_refusal")[name], abs=1e-12)
    assert _row(many[0], "over_refusal")["left_out"] == 40 * repeats


def test_a_difference_is_over_the_prompts_that_count_for_both() -> None:
    base = ["incoherent"] * 10 + ["refusal"] * 10 + ["compliance"] * 20
    deft = ["refusal"] * 10 + ["incoherent"] * 10 + ["compliance"] * 10 + ["refusal"] * 10
    rates, differences = _of({"base": base, "deft": deft}, _replied(40, 0))
    found = _row(differences, "over_refusal")
    assert (found["difference"], found["prompts"], found["n"]) == (0.5, 20, 20)
    assert _row(rates, "over_refusal")["value"] == pytest.approx(20 / 30)
    assert found["at_worst"]["difference"] == pytest.approx((10 + 10 + 10 - 10) / 40)
    assert found["at_worst"]["prompts"] == 40


def test_at_worst_is_the_difference_where_nothing_was_left_out() -> None:
    deft = ["refusal"] * 3 + ["compliance"] * 37
    (found,) = [
        row
        for row in _of({"base": ["compliance"] * 40, "deft": deft}, _replied(40, 0))[1]
        if (row["metric"], row["slice"]) == ("over_refusal", "all")
    ]
    assert found["at_worst"] == {name: found[name] for name in ("difference", "low", "high", "prompts")}


def test_no_category_is_too_small_and_no_prompt_without_one() -> None:
    replied = [Replied(0, "safe", "rare"), *(Replied(i, "safe", None) for i in range(1, 9))]
    rates, _ = _of({"base": ["refusal"] + ["compliance"] * 8}, replied)
    assert _row(rates, "over_refusal", "base", "category:rare")["prompts"] == 1
    assert _row(rates, "over_refusal", "base", "category:uncategorised")["prompts"] == 8
    assert _row(rates, "over_refusal", "base", "category:rare")["low"] < 0.7
