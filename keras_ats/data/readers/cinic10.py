"""CINIC-10: CIFAR-10 and as many ImageNet images, in folders (Darlow et al., 2018)."""

from keras_ats.data.readers.image_folders import check_folders, find_root, read_folder
from keras_ats.data.readers.published import Published, Request

SIZE = 32
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_FOLDERS = {"train": "train", "validation": "valid", "test": "test"}


def read(request: Request) -> Published:
    """Reads `train`, `valid` and `test`, each with a folder per class."""
    root = find_root(
        request,
        "CINIC-10",
        "train/<class>/*.png, valid/<class>/*.png and test/<class>/*.png of CINIC-10 "
        "(Darlow et al., 2018)",
    )
    splits = {}
    for split, name in _FOLDERS.items():
        if split == "validation" and not request.with_validation:
            continue
        folder = root / name
        if not folder.is_dir():
            raise FileNotFoundError(
                f"CINIC-10 has the folders train, valid and test. Received: no {folder}. Unpack "
                "the archive again."
            )
        check_folders(request, folder, CLASS_NAMES)
        splits[split] = read_folder(request, folder, SIZE, "inferred", list(CLASS_NAMES))
    return Published(splits, CLASS_NAMES)
