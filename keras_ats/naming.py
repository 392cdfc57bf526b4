"""Class names as names for logs and look-up."""

import re


def snake_case(name: str) -> str:
    """Returns `name` in snake case; acronyms stay one word: `LogitMSE` is `logit_mse`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
