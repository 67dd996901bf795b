"""`python -m api.openapi > docs/openapi.json` writes the committed OpenAPI document, which a test compares."""

import json
import sys
import tempfile
from pathlib import Path

from api.app import create_app
from store.settings import Settings


def main() -> None:
    """Write the document to standard output; no database and no folder of the caller's is touched."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_folder=Path(folder)))
        sys.stdout.write(json.dumps(app.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
