"""People judge on the page: by keyboard and by mouse, blind, with a warning, to the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page, expect

from deft_client import Client
from store import accounts
from store.artifacts import ArtifactFiles
from store.database import Database, migrate
from store.settings import Settings
from tests.api.test_server import ROOT, free_port, wait_for
from tests.browser import browser_path, opened_page
from tests.evaluations import publish_evaluation

expect.set_options(timeout=20_000)  # a busy machine is no fault of the page
ROWS = 5
HOSTILE = "<img src=x onerror=alert(1)> & <b>bold</b>"


class House(NamedTuple):
    client: Client
    evaluation: str


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    browser_path()
    settings = Settings(data_folder=tmp_path_factory.mktemp("house"))
    migrate(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    with database.write() as session:
        team, key = accounts.bootstrap(session)
    answers = {name: [f"{text} {n}\n{HOSTILE}" for n in range(ROWS)] for name, text in (("sys-x", "p"), ("sys-y", "q"))}
    asked = {"set": "ds_q", "row": 0, "prompt": "First question", "cluster": 0.5, "reference": []}
    said = [
        {"set": "ds_q", "row": 0, "sample": 0, "turn": turn, "system": name, "text": f"{text}{turn}\n{HOSTILE}"}
        for name, text in (("sys-x", "p"), ("sys-y", "q"))
        for turn in (1, 2, 3)
    ]
    sets = {"sets": said, "asked": [{**asked, "further": ["Second question", f"Third {HOSTILE}"]}]}
    files = ArtifactFiles(settings)
    made = publish_evaluation(database, files, team.id, rows=ROWS, answers=answers, adapters={}, **sets)
    port = free_port()
    environment = {**os.environ, "DEFT_DATA_FOLDER": str(settings.data_folder)}
    arguments = ["--factory", "api.main:create", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", *arguments], cwd=ROOT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/livez", process)
        with Client(f"http://127.0.0.1:{port}", key) as client:
            yield House(client, made.id)
    finally:
        process.terminate()
        process.wait(20)
        database.dispose()


@pytest.fixture
def page() -> Iterator[Page]:
    with opened_page() as page:
        page.faults = []  # type: ignore[attr-defined]
        page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.faults.append(str(error)))  # type: ignore[attr-defined]
        yield page


def study_and_link(house: House, **more: Any) -> tuple[dict[str, Any], str]:
    spec = {"evaluation": house.evaluation, "systems": ["sys-x", "sys-y"], "attention": 0, "seed": 1, **more}
    study = house.client.studies.create(spec)
    return study, house.client.url + house.client.studies.invite(study["id"], "Ann")["url"]


def test_a_rater_judges_by_keyboard_to_the_end_and_sees_no_name(house: House, page: Page, tmp_path: Path) -> None:
    study, link = study_and_link(house)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(link)
    expect(page.locator("#guidelines")).to_contain_text("Read the prompt")
    page.keyboard.press("Enter")
    for done, key in enumerate(["1", "t", "b", "2", "s"]):
        expect(page.locator("#progress")).to_have_text(f"{done} judged, {ROWS - done} left")
        expect(page.locator("#response-1")).to_contain_text(HOSTILE)
        assert "sys-" not in page.content()
        page.keyboard.press(key)
    expect(page.locator("#done")).to_be_visible()
    results = house.client.studies.results(study["id"])
    assert (results["judged_pairs"], results["skipped"]) == (4, 1)
    verdicts = results["verdicts"]
    assert (verdicts["tie"], verdicts["both_bad"], verdicts["first"] + verdicts["second"]) == (1, 1, 2)
    token = link.split("#")[1]
    assert not [url for url in asked if "sys-" in url or token in url.split("#")[0] or "127.0.0.1" not in url]
    assert page.faults == []  # type: ignore[attr-defined]
    page.screenshot(path=tmp_path / "done.png")


def test_a_rater_judges_by_mouse_and_takes_the_last_word_back(house: House, page: Page) -> None:
    study, link = study_and_link(house)
    page.goto(link)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#response-1")).to_contain_text(HOSTILE)
    first = page.locator("#response-1").inner_text()
    page.get_by_role("button", name="tie").click()
    expect(page.locator("#progress")).to_have_text(f"1 judged, {ROWS - 1} left")
    page.keyboard.press("u")
    expect(page.locator("#response-1")).to_have_text(first, use_inner_text=True)
    page.get_by_role("button", name="both bad").click()
    expect(page.locator("body")).not_to_have_attribute("aria-busy", "true")  # the count alone stood there before
    expect(page.locator("#progress")).to_have_text(f"1 judged, {ROWS - 1} left")
    assert house.client.studies.results(study["id"])["verdicts"]["both_bad"] == 1
    assert house.client.studies.results(study["id"])["verdicts"]["tie"] == 0


def test_a_rater_is_told_that_an_answer_was_not_taken_and_gives_it_again(house: House, page: Page) -> None:
    study, link = study_and_link(house)
    page.goto(link)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#response-1")).to_contain_text(HOSTILE)
    first = page.locator("#response-1").inner_text()
    page.context.set_offline(True)
    page.keyboard.press("1")
    expect(page.locator("#message")).to_have_text(
        "The service cannot be reached: your answer may not have been taken. Please give it again."
    )
    expect(page.locator("#response-1")).to_have_text(first, use_inner_text=True)
    page.context.set_offline(False)
    page.route("**/rating/items/*", lambda route: route.fulfill(status=502, body="<html>Bad gateway</html>"))
    page.keyboard.press("1")
    expect(page.locator("#message")).to_contain_text("your answer may not have been taken. Please give it again.")
    page.unroute("**/rating/items/*")
    assert house.client.studies.results(study["id"])["judged_pairs"] == 0
    page.keyboard.press("1")
    expect(page.locator("#progress")).to_have_text(f"1 judged, {ROWS - 1} left")
    expect(page.locator("#message")).to_be_hidden()


def test_a_page_that_cannot_reach_the_service_says_so(house: House, page: Page) -> None:
    _, link = study_and_link(house)
    page.route("**/rating", lambda route: route.abort())
    page.goto(link)
    expect(page.locator("#message")).to_have_text("The service cannot be reached. Please load this page again.")
    page.unroute("**/rating")
    page.reload()
    page.route("**/rating/next", lambda route: route.abort())
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#message")).to_have_text("The service cannot be reached. Please try again.")


def test_a_rater_sees_both_conversations_to_the_end(house: House, page: Page, tmp_path: Path) -> None:
    _, link = study_and_link(house, prompt_set="ds_q")
    page.goto(link)
    expect(page.locator("#guidelines")).to_contain_text("Read the prompt")
    page.keyboard.press("Enter")
    expect(page.locator("#later .asked")).to_have_text(["userSecond question", f"userThird {HOSTILE}"])
    expect(page.locator("#later h2")).to_have_text(
        [
            *("Then the user says", "Response 1, turn 2", "Response 2, turn 2"),
            *("Then the user says", "Response 1, turn 3", "Response 2, turn 3"),
        ]
    )
    sides = [page.locator(f"#response-{side}").inner_text()[0] for side in (1, 2)]
    assert sorted(sides) == ["p", "q"]
    for turn in (2, 3):
        expect(page.locator("#later .responses").nth(turn - 2).locator(".text")).to_have_text(
            [f"{side}{turn}\n{HOSTILE}" for side in sides]
        )
    expect(page.locator("#later")).to_be_visible()
    assert "sys-" not in page.content()
    page.screenshot(path=tmp_path / "turns.png", full_page=True)
    page.keyboard.press("1")
    expect(page.locator("#done")).to_be_visible()
    assert page.faults == []  # type: ignore[attr-defined]


def test_items_of_one_turn_show_no_later_one(house: House, page: Page) -> None:
    _, link = study_and_link(house)
    page.goto(link)
    expect(page.locator("#guidelines")).to_contain_text("Read the prompt")
    page.keyboard.press("Enter")
    expect(page.locator("#response-1")).to_contain_text(HOSTILE)
    assert page.locator("#later").inner_html() == ""


def test_a_warning_covers_the_item_until_the_rater_agrees_or_skips(house: House, page: Page) -> None:
    _, link = study_and_link(house, content_warning="Strong words ahead.")
    page.goto(link)
    expect(page.locator("#study-warning")).to_have_text("Strong words ahead.")
    page.keyboard.press("Enter")
    expect(page.locator("#cover")).to_contain_text("Strong words ahead.")
    expect(page.locator("#response-1")).to_be_hidden()
    page.keyboard.press("1")
    expect(page.locator("#progress")).to_have_text(f"0 judged, {ROWS} left")
    page.keyboard.press("w")
    expect(page.locator("#response-1")).to_be_visible()
    page.keyboard.press("1")
    expect(page.locator("#progress")).to_have_text(f"1 judged, {ROWS - 1} left")
    expect(page.locator("#cover")).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator("#progress")).to_have_text(f"2 judged, {ROWS - 2} left")


def test_without_an_invitation_the_page_says_so_and_shows_nothing(house: House, page: Page) -> None:
    study, link = study_and_link(house)
    page.goto(link.split("#")[0])
    expect(page.locator("#message")).to_contain_text("lacks the invitation")
    page.goto("about:blank")
    page.goto(link + "x")
    expect(page.locator("#message")).to_contain_text("This invitation does not work, or no longer")
    house.client.studies.close(study["id"])
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#message")).to_contain_text("closed")
    expect(page.locator("#welcome")).to_be_hidden()
