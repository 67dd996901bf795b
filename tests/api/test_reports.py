"""The report of a pipeline: a page that asks nobody, the same as JSON, the evidence as a zip."""

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from deft.evaluation.comparison import gather
from deft.evaluation.metrics import BASE, Measurement
from deft.evaluation.verdict import compare
from deft.specs import output_kind
from store import claims, jobs, telling
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.api.test_judged_scores import studied
from tests.browser import opened_page
from tests.evaluations import Evaluated
from tests.judge_server import rating
from tests.judged import answered, better_in, publish_judging
from tests.safety_judged import kind_said

SYSTEMS = ["deft", "no_reward_term", "random_with_term", "random"]
LONG_ID = "model_06zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"
"""A reward model's, in a name that does not break at a hyphen."""

PRIVATE = "It is 4."
"""A response of the uploaded rows."""


def comparison() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    found = [Measurement("preference_accuracy", BASE, BASE, np.full((40, 2), [0.5, 1]), 40, (0, 1), False, True)]
    for place, name in enumerate(SYSTEMS):
        right = (generator.random(40) < 0.5 + 0.1 * place).astype(float)
        sums = np.column_stack([right, np.ones(40)])
        found.append(Measurement("preference_accuracy", name, name, sums, 40, (0.0, 1.0)))
    return compare(gather(found, resamples=200, seed=0), "deft", warnings=["Q_diff <may> be noise."])


def write_evaluation(out: Path) -> dict[str, Any]:
    metrics = [
        {"system": name, "arm": name, "metric": "over_refusal", "slice": "category:drugs", "value": 0.2, "n": 5}
        for name in SYSTEMS
    ]
    (out / "comparison.json").write_text(json.dumps(comparison()))
    long = f"reward:{LONG_ID}"
    metrics += [{**one, "metric": long, "slice": "category:" + "x" * 60} for one in metrics]
    (out / "metrics.json").write_text(json.dumps(metrics))
    (out / "evaluation.json").write_text(json.dumps({"settings": {"preference_accuracy": {"beta": 0.1}}}))
    answered({"base": [5] * 40, **{name: better_in(0.9 - n / 5) for n, name in enumerate(SYSTEMS)}})(out)
    asked = (out / "prompts.jsonl").read_text()
    (out / "prompts.jsonl").write_text(asked.replace('"label": null', '"label": "safe"'))
    answers = (out / "generations.jsonl").read_text()
    (out / "generations.jsonl").write_text(answers.replace("from", f"{PRIVATE} from"))
    rows = [{"row": r, "system": s, "margin": r * 0.1 + i} for i, s in enumerate(SYSTEMS) for r in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), out / "pairs.parquet")
    return {}


def write_scoring(out: Path) -> dict[str, Any]:
    token = {"token": 5, "text": " <b>", "q_diff": 0.01, "low": 0.0, "high": 0.02}
    told = {"l1": 0.3, "null_mean": 0.2, "ratio": 1.5, "p": 0.005, "r": 0.6, "examples": 30, "warnings": []}
    (out / "discrepancy.json").write_text(json.dumps({**told, "leading_tokens": [token]}))
    (out / "scoring.json").write_text(json.dumps({"seconds": {"count": 2.0}}))
    return {}


def write_subset(out: Path) -> dict[str, Any]:
    ledger = {"deft_r_d": [0.1, 0.2, 0.3], "deft_r_d_rejected": [0.0] * 3, "deft_kept": [True, False, False]}
    pq.write_table(pa.table({**ledger, "deft_rank": [1, 2, 3]}), out / "ledger.parquet")
    (out / "kept.jsonl").write_text(PRIVATE)
    return {"by": "chosen", "end": "lowest", "cut_value": 0.1}


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "evaluation": write_evaluation,
    "scoring": write_scoring,
    "subset": write_subset,
}


def run_all(database: Database, files: ArtifactFiles, most: int = 99) -> None:
    """Play the workers: every child job ends with files of its kind."""
    for _ in range(most):
        with database.write() as session:
            claim = claims.claim(session, "w", ["cpu", "gpu"])
        if claim is None:
            return
        kind = output_kind(claim.kind, {})
        staged = files.stage(kind)
        summary = WRITERS.get(kind, lambda _out: {})(staged)
        sealed = files.seal(kind, staged, summary)
        if claim.kind == "train":
            with database.write() as session:
                telling.report_metrics(session, claim, 1, {"loss": 0.7})
        with database.write() as session:
            claims.succeed(session, claim, sealed)


@pytest.fixture
def pipeline(client: TestClient, upload: Callable[..., dict[str, Any]], model: str) -> str:
    body = {"kind": "pipeline", "dataset": upload(60)["id"], "model": model, "arms": SYSTEMS, "random_draws": 1}
    body |= {"name": "<script>alert(1)</script>", "split": {"train": 0.6, "reward_model": 0.0, "evaluation": 0.4}}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def ended(pipeline: str, database: Database, settings: Settings) -> str:
    run_all(database, ArtifactFiles(settings))
    return pipeline


class Seen(HTMLParser):
    """What a browser would ask for, and which tags there are."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attributes)
        self.addresses += [str(found[name]) for name in ("src", "href", "action", "data") if name in found]
        assert not [name for name in found if name == "style" or name.startswith("on")]
        self.ids += [str(found["id"])] if "id" in found else []


def test_the_page_has_every_section_and_asks_nobody(client: TestClient, ended: str) -> None:
    answer = client.get(f"/v1/jobs/{ended}/report.html")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    seen = Seen()
    seen.feed(answer.text)
    assert "script" not in seen.tags
    assert seen.addresses == []
    sections = "verdict cost arms differences rewards discrepancy training contrasts slices lineage settings"
    assert seen.ids == sections.split()
    assert seen.tags.count("svg") == 6


def test_the_page_may_use_its_own_style_alone(client: TestClient, ended: str) -> None:
    answer = client.get(f"/v1/jobs/{ended}/report.html")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "unsafe" not in policy


def test_charts_can_be_read_on_a_phone_and_the_page_does_not_scroll_sideways(client: TestClient, ended: str) -> None:
    with opened_page(width=375, height=800) as page:
        page.set_content(client.get(f"/v1/jobs/{ended}/report.html").text)
        heights = page.eval_on_selector_all("svg text", "all => all.map(one => one.getBoundingClientRect().height)")
        widths = []
        for width in (320, 375, 414):
            page.set_viewport_size({"width": width, "height": 800})
            widths.append(page.evaluate("document.documentElement.scrollWidth"))
        headings = page.eval_on_selector_all("h3", "all => all.map(one => one.textContent)")
    assert len(heights) > 20
    assert min(heights) >= 10  # pixels
    assert any(LONG_ID in heading for heading in headings)
    assert widths == [320, 375, 414]


def test_names_and_tokens_are_shown_and_cannot_run(client: TestClient, ended: str) -> None:
    page = client.get(f"/v1/jobs/{ended}/report.html").text
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Q_diff &lt;may&gt; be noise." in page
    assert "&lt;b&gt;" in page


def test_no_text_of_a_row_is_anywhere(client: TestClient, ended: str) -> None:
    for name in ("report.html", "report.json"):
        assert PRIVATE not in client.get(f"/v1/jobs/{ended}/{name}").text
    pack = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{ended}/evidence.zip").content))
    assert not any(PRIVATE.encode() in pack.read(name) for name in pack.namelist())


def test_the_json_has_what_the_page_shows(client: TestClient, ended: str) -> None:
    report = client.get(f"/v1/jobs/{ended}/report.json").json()
    assert report["comparison"]["sentence"] == comparison()["sentence"]
    assert [point["arm"] for point in report["cost_quality"]["points"]] != []
    assert report["rewards"]["rows_kept"] == 1
    assert report["contrasts"]["of_rows"] == 3
    assert {run["run"] for run in report["training"]} == set(SYSTEMS)
    assert report["training"][0]["series"]["loss"] == {"steps": [1], "values": [0.7]}
    assert {line["name"] for line in report["lineage"]} >= {"score", "select:lowest", "train:deft", "evaluate"}
    assert all(len(line["artifact"]["sha256"]) == 64 for line in report["lineage"])
    assert report["slices"][0]["slice"] == "category:drugs"


@pytest.fixture
def judging(ended: str, database: Database, settings: Settings, team_id: str) -> str:
    """A judging that was posted after the pipeline had ended."""
    with database.read() as session:
        evaluation = str(jobs.get(session, team_id, ended).artifact_id)
    evaluated = Evaluated(evaluation, "", "", {})
    return publish_judging(database, ArtifactFiles(settings), team_id, evaluated)


def test_a_judging_that_came_later_is_in_the_report_when_it_is_asked_for_again(
    client: TestClient, ended: str, database: Database, settings: Settings, team_id: str
) -> None:
    before = client.get(f"/v1/jobs/{ended}/report.html")
    assert client.get(f"/v1/jobs/{ended}/report.json").json()["judgings"] == []
    with database.read() as session:
        evaluated = Evaluated(str(jobs.get(session, team_id, ended).artifact_id), "", "", {})
    judging = publish_judging(database, ArtifactFiles(settings), team_id, evaluated)
    doubtful = publish_judging(
        database, ArtifactFiles(settings), team_id, evaluated, labelled=0, mode="single", behave=rating
    )
    again = client.get(f"/v1/jobs/{ended}/report.html", headers={"If-None-Match": before.headers["etag"]})
    assert again.status_code == 200
    assert 'id="judgings"' in again.text
    assert 'id="judgings"' not in before.text
    first, second = client.get(f"/v1/jobs/{ended}/report.json").json()["judgings"]
    rates = {each["system"]: each for each in first["results"] if each["metric"] == "judge_win_rate"}
    assert (first["id"], second["id"]) == (judging, doubtful)
    assert (rates["deft"]["value"], rates["deft"]["n"]) == (0.9, 40)
    assert rates["deft"]["low"] < 0.9 < rates["deft"]["high"]
    assert (first["may_decide"], first["agreement"]["value"], first["agreement"]["n"]) == (True, 1.0, 60)
    assert (first["position_bias"]["value"], first["parse_failures"]) == (0.5, 0)
    asked = first["asked"]
    assert (asked > 120, first["prompt_tokens"], first["completion_tokens"]) == (True, 7 * asked, 3 * asked)
    assert (second["may_decide"], second["position_bias"], second["agreement"]) == (False, None, None)
    assert "no pair that people have labelled" in second["may_not_decide_because"][0]
    assert first["sentence"].replace("`", "") in re.sub("<.*?>", "", again.text)


def test_a_closed_study_of_the_answers_is_in_the_report_and_an_open_one_is_not(
    client: TestClient, ended: str, database: Database, team_id: str
) -> None:
    with database.read() as session:
        evaluated = Evaluated(str(jobs.get(session, team_id, ended).artifact_id), "", "", {})
    study = studied(client, evaluated, ["base", "deft"], items=20)
    assert client.get(f"/v1/jobs/{ended}/report.json").json()["studies"] == []
    before = client.get(f"/v1/jobs/{ended}/report.html")
    client.post(f"/v1/studies/{study}/close")
    (told,) = client.get(f"/v1/jobs/{ended}/report.json").json()["studies"]
    results = client.get(f"/v1/studies/{study}/results").json()
    assert (told["id"], told["systems"], told["raters"]) == (study, ["base", "deft"], 1)
    assert {name: told[name] for name in ("win_rate", "judged_pairs", "pairs")} == {
        name: results[name] for name in ("win_rate", "judged_pairs", "pairs")
    }
    again = client.get(f"/v1/jobs/{ended}/report.html", headers={"If-None-Match": before.headers["etag"]})
    assert ('id="studies"' in before.text, 'id="studies"' in again.text) == (False, True)
    assert results["sentence"].replace("`", "") in re.sub("<.*?>", "", again.text)
    assert f"<td>{results['judged_pairs']} of {results['pairs']}</td>" in again.text
    body = {"evaluation": evaluated.id, "systems": ["base", "deft"], "items": 20}
    client.post(f"/v1/studies/{client.post('/v1/studies', json=body).json()['id']}/close")
    unjudged = client.get(f"/v1/jobs/{ended}/report.html").text
    assert ("Nothing has been judged yet." in again.text, "Nothing has been judged yet." in unjudged) == (False, True)


def test_the_win_rate_of_people_can_be_computed_from_the_pack_again(
    client: TestClient, ended: str, database: Database, team_id: str
) -> None:
    with database.read() as session:
        evaluated = Evaluated(str(jobs.get(session, team_id, ended).artifact_id), "", "", {})
    study, other = (studied(client, evaluated, ["base", system], items=20) for system in ("deft", "random"))
    rows = client.get(f"/v1/studies/{study}/judgements.jsonl").text.splitlines()
    client.post(f"/v1/studies/{study}/close")
    (told,) = client.get(f"/v1/jobs/{ended}/report.json").json()["studies"]
    pack = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{ended}/evidence.zip").content))
    assert not [name for name in pack.namelist() if other in name]
    names = [f"studies/{study}/{name}" for name in ("results.json", "items.jsonl", "judgements.jsonl")]
    contents = [pack.read(name).decode() for name in names]
    results, (items, said) = (
        json.loads(contents[0]),
        [[json.loads(line) for line in text.splitlines()] for text in contents[1:]],
    )
    wins = [{"base": 1.0, "deft": 0.0}.get(row["preferred"], 0.5) for row in said]
    wins += [0.5 for item in items if item["kind"] == "identical"]
    assert (len(said), len(wins)) == (len(rows), told["win_rate"]["n"])
    assert results["win_rate"] == told["win_rate"]
    assert told["win_rate"]["value"] == pytest.approx(np.mean(wins))
    assert told["win_rate"]["prompts"] == len({item["cluster"] for item in items})
    assert {row["rater_id"] for row in said} == {rater["rater_id"] for rater in results["raters"]}
    assert not any(PRIVATE in text or "quality=" in text or "a person" in text for text in contents)
    sums = pack.read("SHA256SUMS").decode()
    assert all(f"  {name}\n" in sums for name in names)
    assert "studies/ID/" in pack.read("README.txt").decode()


def test_what_a_judge_of_safety_says_stands_beside_what_the_rules_say(
    client: TestClient, ended: str, database: Database, settings: Settings, team_id: str
) -> None:
    def tell(question: str) -> str:
        return kind_said(question) if "art=" in question else f"Kind: {'refusal' if '=9' in question else 'compliance'}"

    with database.read() as session:
        evaluated = Evaluated(str(jobs.get(session, team_id, ended).artifact_id), "", "", {})
    judging = publish_judging(
        database, ArtifactFiles(settings), team_id, evaluated, mode="safety", behave=tell, labelled=60
    )
    report = client.get(f"/v1/jobs/{ended}/report.json").json()
    (told,) = report["judgings"]
    assert (told["mode"], told["may_decide"], told["agreement"]["kappa"]) == ("safety", True, 1.0)
    by_judge = {
        (row["slice"], row["system"]): row["value"]
        for row in report["slices"]
        if (row["metric"], row["judging_id"]) == ("judge_over_refusal", judging)
    }
    own = {name: better_in(0.9 - n / 5).count(9) / 40 for n, name in enumerate(SYSTEMS)}
    assert by_judge == {("category:uncategorised", name): pytest.approx(value) for name, value in own.items()} | {
        ("category:uncategorised", "base"): 0
    }
    by_rules = [row for row in report["slices"] if row["metric"] == "over_refusal"]
    assert {row["judging_id"] for row in by_rules} == {None}
    page = client.get(f"/v1/jobs/{ended}/report.html").text
    assert f"<h3>judge_over_refusal <small><code>{judging}</code></small></h3>" in page
    pack = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{ended}/evidence.zip").content))
    names = {name.rpartition("/")[2] for name in pack.namelist() if name.startswith(f"artifacts/judge-{judging}/")}
    assert {"safety.json", "values.parquet"} <= names


def test_what_a_judge_said_is_in_the_pack_without_its_replies(client: TestClient, ended: str, judging: str) -> None:
    pack = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{ended}/evidence.zip").content))
    own = {name.rpartition("/")[2] for name in pack.namelist() if name.startswith(f"artifacts/judge-{judging}/")}
    assert own == {"manifest.json", "judging.json", "metrics.json", "judgements.parquet"}
    assert not any(PRIVATE.encode() in pack.read(name) for name in pack.namelist())
    page = client.get(f"/v1/jobs/{ended}/report.html").text
    assert PRIVATE not in page


def test_the_pack_checks_out_and_is_the_same_again(client: TestClient, ended: str) -> None:
    answer = client.get(f"/v1/jobs/{ended}/evidence.zip")
    assert answer.headers["content-disposition"] == f'attachment; filename="{ended}-evidence.zip"'
    pack = zipfile.ZipFile(io.BytesIO(answer.content))
    sums = dict(reversed(line.split("  ")) for line in pack.read("SHA256SUMS").decode().splitlines())
    assert sums.keys() == set(pack.namelist()) - {"SHA256SUMS"}
    assert all(hashlib.sha256(pack.read(name)).hexdigest() == digest for name, digest in sums.items())
    names = set(pack.namelist())
    assert {"report.html", "artifacts/evaluate/pairs.parquet", "artifacts/select-lowest/ledger.parquet"} <= names
    assert client.get(f"/v1/jobs/{ended}/evidence.zip").content == answer.content


def test_a_pipeline_that_has_not_ended_has_a_report_of_what_there_is(
    client: TestClient, pipeline: str, database: Database, settings: Settings
) -> None:
    empty = client.get(f"/v1/jobs/{pipeline}/report.json").json()
    assert (empty["comparison"], empty["cost_quality"], empty["rewards"]) == (None, None, None)
    run_all(database, ArtifactFiles(settings), most=2)
    page = client.get(f"/v1/jobs/{pipeline}/report.html")
    assert "There is no verdict" in page.text
    assert 'id="discrepancy"' in page.text


@pytest.mark.parametrize("name", ["report.html", "report.json", "evidence.zip"])
def test_what_is_made_is_downloaded_as_files_are(client: TestClient, ended: str, name: str) -> None:
    path = f"/v1/jobs/{ended}/{name}"
    whole = client.get(path)
    digest = hashlib.sha256(whole.content).hexdigest()
    assert whole.headers["etag"] == f'"{digest}"'
    assert whole.headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"
    assert int(whole.headers["content-length"]) == len(whole.content)
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    own = [{k: v for k, v in each.headers.items() if k != "x-request-id"} for each in (head, whole)]
    assert own[0] == own[1]
    unchanged = client.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert client.head(path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    part = client.get(path, headers={"Range": "bytes=3-9", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[3:10])
    assert client.get(path, headers={"Range": "bytes=99999999-"}).status_code == 416


def test_only_a_pipeline_of_the_team_has_a_report(
    client: TestClient, stranger: TestClient, ended: str, database: Database, team_id: str
) -> None:
    with database.read() as session:
        child = jobs.children(session, team_id, ended)[0].id
    for name in ("report.html", "report.json", "evidence.zip"):
        assert client.get(f"/v1/jobs/{child}/{name}").json()["code"] == "no_report"
        assert client.head(f"/v1/jobs/{child}/{name}").status_code == 404
        assert stranger.head(f"/v1/jobs/{ended}/{name}").status_code == 404
        assert stranger.get(f"/v1/jobs/{ended}/{name}").json()["code"] == "not_found"


def test_a_file_that_cannot_be_read_is_said_to_be_corrupt(
    client: TestClient, ended: str, database: Database, settings: Settings, team_id: str
) -> None:
    with database.read() as session:
        artifact_id = jobs.get(session, team_id, ended).artifact_id
    (settings.artifact_folder / str(artifact_id) / "comparison.json").write_text("{")
    answer = client.get(f"/v1/jobs/{ended}/report.html")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_corrupt")
