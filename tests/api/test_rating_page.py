"""The rater's page without a browser: what it is allowed, what it holds, what it loads."""

import re

import pytest
from fastapi.testclient import TestClient

from api.rating_page import ASSETS, FOLDER


def test_the_page_holds_no_data_and_needs_no_key(anyone: TestClient) -> None:
    pages = {anyone.get(f"/rate/{study}").text for study in ("st_1", "st_2", "%3Cscript%3E")}
    assert len(pages) == 1
    (page,) = pages
    for verdict, key in (("1", "1"), ("tie", "t"), ("both_bad", "b"), ("2", "2"), ("skip", "s")):
        assert f'data-verdict="{verdict}" data-key="{key}"' in page


def test_the_page_loads_and_asks_this_host_alone(anyone: TestClient) -> None:
    page = anyone.get("/rate/st_1")
    policy = page.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
    )
    assert "http" not in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert re.findall(r"<script[^>]*>[^<]|style=|\son\w+=", page.text) == []
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) == 3
    for asset in assets:
        assert asset.startswith(ASSETS + "/")
        assert anyone.get(asset).status_code == 200
    for path in (FOLDER / "assets").iterdir():
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", path.read_text()) == [], path.name


@pytest.mark.parametrize("name", ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"])
def test_the_script_writes_text_and_keeps_nothing(name: str) -> None:
    assert name not in (FOLDER / "assets" / "rate.js").read_text()


def test_assets_lead_nowhere_else(anyone: TestClient) -> None:
    for path in ("..%2fpage.html", "..%2f__init__.py", "none.js", ""):
        assert anyone.get(f"{ASSETS}/{path}").status_code == 404, path
