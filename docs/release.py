"""A MkDocs hook: the site says of which version it speaks, and where its sources are.

Who publishes it knows the address: `make docs REPOSITORY_URL=https://...`. It becomes a plain link
in the footer, not `repo_url`, for which the theme asks a server for stars in the reader's browser.
"""

import os
import runpy
from pathlib import Path
from typing import Any

VERSION = Path(__file__).parent.parent / "keras_ats" / "version.py"


def on_config(config: Any) -> Any:
    """Puts the version beside the name in the header, and the address, if there is one, below."""
    # Read, not imported: building pages needs no backend.
    version = runpy.run_path(str(VERSION))["__version__"]
    config.site_name = f"{config.site_name} {version}"
    address = os.environ.get("REPOSITORY_URL")
    if address:
        link = {"icon": "fontawesome/brands/git-alt", "link": address, "name": "Repository"}
        config.extra["social"] = [link]
    return config
