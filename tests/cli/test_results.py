"""The printed table of an evaluation."""

from typing import Any

from cli.results import footnotes, table

CELL = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 48, "is_trained_on": False}
RM = "rm_01k8zq3yx4m5n6p7q8r9s0t1v2"


def _comparison(**cells: Any) -> dict[str, Any]:
    return {"table": [{"arm": "deft", "cells": {name.replace("__", ":"): cell for name, cell in cells.items()}}]}


def test_rewards_stand_by_their_model_and_are_marked_where_they_prove_nothing() -> None:
    reward = {"value": 55.4, "low": 50.0, "high": 60.0, "n": 48, "is_trained_on": False, "is_valid": False}
    comparison = _comparison(**{"kl": CELL, f"reward__{RM}": reward, f"reward_logit__{RM}": reward, "bleu": CELL})
    columns, rows = table(comparison)
    assert columns == ["arm", f"reward by ..{RM[-12:]}, n=48", "KL to the base, n=48"]
    assert rows == [["deft", "55.4 ! [50.0, 60.0]", "0.500 [0.400, 0.600]"]]
    assert any(note.startswith("!:") for note in footnotes(comparison))
    assert not any(note.startswith("!:") for note in footnotes(_comparison(kl=CELL)))
