"""`/rate/{study_id}`: the page on which people judge. It holds no data: its script asks `/v1/studies/.../rating`.

The token stands behind the `#` of the address, which browsers send to nobody. The policy lets the page load and ask
this host alone.
"""

from pathlib import Path

from fastapi import FastAPI
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from deft.specs.studies import VERDICTS
from deft.studies.items import LABELS

ASSETS = "/rate/assets"
FOLDER = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
KEYS = {"1": "1", "tie": "t", "both_bad": "b", "2": "2"}
"""The key of each verdict."""


def install(app: FastAPI) -> None:
    """Give *app* the page and its assets."""
    app.mount(ASSETS, StaticFiles(directory=FOLDER / "assets"), name="rating_assets")
    app.add_api_route("/rate/{study_id}", _page, include_in_schema=False, name="rate")


def _page(study_id: str) -> HTMLResponse:  # noqa: ARG001 - the script reads it from the address; nothing is looked up
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=select_autoescape(default=True))
    verdicts = [{"value": value, "label": LABELS[value], "key": KEYS[value]} for value in VERDICTS]
    text = environment.get_template("page.html").render(assets=ASSETS, verdicts=verdicts)
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})
