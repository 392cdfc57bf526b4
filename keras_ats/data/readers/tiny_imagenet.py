"""Tiny-ImageNet: 200 classes at 64 by 64 pixels, in folders (Stanford's course CS231n)."""

from pathlib import Path

from keras_ats.data.readers.image_folders import check_folders, find_root, read_folder
from keras_ats.data.readers.published import Published, Request

SIZE = 64


def read(request: Request) -> Published:
    """Reads `train` and, as the test split, `val`; the published test images have no labels.

    Classes are in alphabetical order of their WordNet ids, as other folder loaders have them.
    """
    root = find_root(
        request,
        "tiny-imagenet-200",
        "wnids.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt of "
        "Tiny-ImageNet (tiny-imagenet-200, Stanford's course CS231n)",
    )
    names = sorted(_read_text(root / "wnids.txt").split())
    if len(names) != request.num_classes:
        raise ValueError(
            f"Tiny-ImageNet has {request.num_classes} classes. Received: {len(names)} in "
            f"{root / 'wnids.txt'}. Unpack the archive again."
        )
    check_folders(request, root / "train", names)
    splits = {
        "train": read_folder(request, root / "train", SIZE, "inferred", names),
        "test": read_folder(
            request, root / "val" / "images", SIZE, _validation_labels(root / "val", names), None
        ),
    }
    return Published(splits, tuple(names))


def _validation_labels(folder: Path, names: list[str]) -> list[int]:
    """The labels of the images in alphabetical order, from the table beside them."""
    table = folder / "val_annotations.txt"
    rows = [line.split("\t") for line in _read_text(table).splitlines() if line]
    wnids = {row[0]: row[1] for row in rows if len(row) > 1}
    if not (folder / "images").is_dir():
        raise FileNotFoundError(
            f"Tiny-ImageNet has a folder val/images. Received: no {folder / 'images'}. Unpack the "
            "archive again."
        )
    files = sorted(path.name for path in (folder / "images").glob("*.JPEG"))
    unlabelled = [name for name in files if wnids.get(name) not in names]
    if unlabelled:
        raise ValueError(
            f"{table} must give one of the {len(names)} class ids of wnids.txt to each of the "
            f"{len(files)} images, as file, tab, id. Received: none for {unlabelled[:5]}"
            f"{' and others' if len(unlabelled) > 5 else ''}. Unpack the archive again."
        )
    return [names.index(wnids[name]) for name in files]


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"Tiny-ImageNet has a file {path.name}. Received: no {path}. Unpack the archive again."
        )
    return path.read_text(encoding="utf-8")
