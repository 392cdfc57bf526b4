"""A MkDocs hook: tables of sentences can be read on a phone.

There each of their rows is shown as a card (`stylesheets/site.css`), and a cell by itself does not
say which column it stands in: so each is given the heading of its column.
"""

import html
import re
from typing import Any

TABLE = re.compile(r"<table>(.*?)</table>", re.DOTALL)
ROW = re.compile(r"<tr>(.*?)</tr>", re.DOTALL)
CELL = re.compile(r"<(th|td)([^>]*)>(.*?)</\1>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")
SENTENCE = 40  # Characters of a cell that does not fit beside two others.


def on_page_content(content: str, **_: Any) -> str:
    """Marks the tables of a rendered page."""
    return TABLE.sub(_marked, content)


def _marked(table: re.Match[str]) -> str:
    head, *rows = ROW.findall(table[1])
    headings = [_text(cell[2]) for cell in CELL.findall(head)]
    longest = max((len(_text(cell[2])) for row in rows for cell in CELL.findall(row)), default=0)
    if len(headings) < 3 or longest < SENTENCE:
        return table[0]
    labelled = ROW.sub(lambda row: _labelled(row, headings), table[1])
    return f'<table data-narrow="cards">{labelled}</table>'


def _labelled(row: re.Match[str], headings: list[str]) -> str:
    labels = iter(headings)

    def cell(match: re.Match[str]) -> str:
        element, attributes, content = match.groups()
        label = next(labels)
        # What a row is about stands first, and its heading would only repeat itself.
        is_named = element == "td" and label != headings[0] and label
        name = f' data-label="{html.escape(label)}"' if is_named else ""
        return f"<{element}{attributes}{name}>{content}</{element}>"

    return CELL.sub(cell, row[0])


def _text(cell: str) -> str:
    return html.unescape(TAG.sub("", cell)).strip()
