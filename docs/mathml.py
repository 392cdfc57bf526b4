r"""A MkDocs hook: formulas become MathML while the site is built.

Browsers draw MathML themselves, so the pages need no script from elsewhere. `pymdownx.arithmatex`
marks the formulas: `\(...\)` in a span where inline, `\[...\]` in a div where displayed.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.+?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replaces every marked formula of a rendered page."""
    return FORMULA.sub(_to_mathml, content)


def _to_mathml(match: re.Match[str]) -> str:
    element, latex = match.groups()
    display = "inline" if element == "span" else "block"
    return convert(html.unescape(latex), display=display)
