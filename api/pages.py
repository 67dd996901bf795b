"""`/docs`: Swagger UI from files of this machine, under a policy that lets the browser ask nobody else."""

import base64
import hashlib
import importlib.util
import re
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI) -> None:
    """Give *app* the page and its assets."""
    app.mount(ASSETS, StaticFiles(directory=_assets_folder()), name="docs_assets")
    app.add_api_route("/docs", lambda: _page(app), include_in_schema=False, name="docs")


def _assets_folder() -> Path:
    """Return where fastapi-offline keeps Swagger UI; its own application factory would need inline scripts allowed."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise RuntimeError("fastapi-offline is not installed; it brings the assets of /docs")
    return Path(found.origin).parent / "static"


def _page(app: FastAPI) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{app.title} - API",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"persistAuthorization": False, "validatorUrl": None},
    )
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body))
    page.headers["Cache-Control"] = "no-cache"
    return page


def _policy(body: bytes) -> str:
    """Return a policy that allows this page's own script by its hash; Swagger UI sets styles inline."""
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(body))
    scripts = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
