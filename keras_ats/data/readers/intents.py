"""CLINC150 and Banking77: sentences with the intent of who said them."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from keras_ats.data.readers.published import Request

Pairs: TypeAlias = list[tuple[str, str]]
"""Sentences with the names of their classes."""

OUT_OF_SCOPE = "oos"

CLINC150 = "CLINC150 (Larson et al., 2019; repository clinc/oos-eval, data/data_full.json)"
CLINC150_COUNTS = {
    "train": 15_000,
    "val": 3_000,
    "test": 4_500,
    "oos_train": 100,
    "oos_val": 100,
    "oos_test": 1_000,
}
BANKING77 = (
    "Banking77 (Casanueva et al., 2020; repository PolyAI-LDN/task-specific-datasets, "
    "banking_data/train.csv and test.csv)"
)
BANKING77_COUNTS = {"train": 10_003, "test": 3_080}


class Sentences(NamedTuple):
    """The splits by name, "train" and "test" and maybe "validation", and the class names."""

    splits: dict[str, Pairs]
    class_names: tuple[str, ...]


def read_clinc150(request: Request, out_of_scope: bool) -> Sentences:
    """Reads `clinc150.json` or, under its published name, `data_full.json`.

    Classes are in alphabetical order; out-of-scope sentences, if asked for, are the last class.
    """
    file = _find(request, ("clinc150.json", "data_full.json"), CLINC150)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, f"no JSON: {error}", CLINC150) from error
    if not isinstance(content, dict):
        raise _damaged(file, f"a {type(content).__name__}, no object", CLINC150)
    parts = {
        key: _pairs(content.get(key), count, f"'{key}'", file, CLINC150)
        for key, count in CLINC150_COUNTS.items()
    }
    names = _class_names(parts["train"], request, file, CLINC150)
    splits = {}
    for split, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        splits[split] = parts[key] + (parts[f"oos_{key}"] if out_of_scope else [])
    if out_of_scope:
        names = (*names, OUT_OF_SCOPE)
    _check_names(splits, names, file, CLINC150)
    if not request.with_validation:
        del splits["validation"]
    return Sentences(splits, names)


def read_banking77(request: Request, out_of_scope: bool) -> Sentences:
    """Reads `banking77_train.csv` and `banking77_test.csv` or, as published, `train.csv` and so on.

    Classes are in alphabetical order, whatever the case of their letters.
    """
    if out_of_scope:
        raise ValueError(
            "`out_of_scope` must be False for banking77, which has no such sentences. Received: "
            "out_of_scope=True. CLINC150 has them."
        )
    splits, file = {}, Path()
    for split, count in BANKING77_COUNTS.items():
        file = _find(request, (f"banking77_{split}.csv", f"{split}.csv"), BANKING77)
        splits[split] = _pairs(_rows(file), count, "the table", file, BANKING77)
    names = _class_names(splits["train"], request, file, BANKING77)
    _check_names(splits, names, file, BANKING77)
    return Sentences(splits, names)


def _find(request: Request, names: Sequence[str], title: str) -> Path:
    places = [] if request.data_dir is None else [request.data_dir / name for name in names]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"There is no {request.name} here. Received: data_dir={str(request.data_dir)!r}. Expected "
        f"in it: {' or '.join(names)}, of {title}. Get it and pass its folder; nothing is "
        "downloaded by itself."
    )


def _rows(file: Path) -> list[list[str | None]]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, strict=True)
            if table.fieldnames != ["text", "category"]:
                raise _damaged(file, f"the columns {table.fieldnames}", BANKING77)
            return [[row["text"], row["category"]] for row in table]
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(file, f"no CSV: {error}", BANKING77) from error


def _pairs(rows: Any, count: int, what: str, file: Path, title: str) -> Pairs:
    received = f"{len(rows)} rows" if isinstance(rows, list) else type(rows).__name__
    if not isinstance(rows, list) or len(rows) != count:
        raise _damaged(file, f"{what} with {received}, for {count} rows", title)
    for place, row in enumerate(rows):
        is_pair = isinstance(row, list) and len(row) == 2
        if not is_pair or not all(isinstance(one, str) and one for one in row):
            raise _damaged(file, f"{row!r} in row {place} of {what}, for [text, class]", title)
    return [(row[0], row[1]) for row in rows]


def _class_names(train: Pairs, request: Request, file: Path, title: str) -> tuple[str, ...]:
    names = sorted({name for _, name in train}, key=lambda name: (name.lower(), name))
    if len(names) != request.num_classes:
        raise _damaged(file, f"{len(names)} classes, for {request.num_classes}", title)
    return tuple(names)


def _check_names(splits: dict[str, Pairs], names: tuple[str, ...], file: Path, title: str) -> None:
    for split, pairs in splits.items():
        counts = Counter(name for _, name in pairs)
        wrong = sorted(set(counts) ^ set(names))
        if wrong:
            raise _damaged(file, f"a {split} split without or with unknown {wrong[:5]}", title)


def _damaged(file: Path, received: str, title: str) -> ValueError:
    return ValueError(
        f"{file} is not what was published. Received: {received}. Expected: a whole copy of "
        f"{title}. Get it again."
    )
