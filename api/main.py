"""What uvicorn starts: `uvicorn --factory api.main:create`, with the settings of the environment (`DEFT_*`)."""

from fastapi import FastAPI

from api.app import create_app
from store.settings import Settings


def create() -> FastAPI:
    """Return the application for the settings of the environment."""
    return create_app(Settings())
