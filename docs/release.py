"""A MkDocs hook: the site says of which version it speaks."""

import runpy
from pathlib import Path
from typing import Any

VERSION = Path(__file__).parent.parent / "keras_ats" / "version.py"


def on_config(config: Any) -> Any:
    """Puts the version beside the name in the header."""
    # Read, not imported: building pages needs no backend.
    version = runpy.run_path(str(VERSION))["__version__"]
    config.site_name = f"{config.site_name} {version}"
    return config
