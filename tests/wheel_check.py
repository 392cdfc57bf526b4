"""Checks the package that people install: run it with a Python that has the wheel, and no checkout.

cd "$(mktemp -d)" && .../bin/python .../tests/wheel_check.py .../dist
"""

import importlib.metadata
import json
import os
import pkgutil
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import keras
import numpy as np

import keras_ats

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTION = importlib.metadata.distribution("keras-ats")
# None in its place makes any import of the package an ImportError.
LOADING = """
import sys
sys.modules["keras_ats"] = None
import keras, numpy as np
student = keras.saving.load_model("student.keras")
np.save("loaded.npy", student.predict(np.load("x.npy"), verbose=0))
"""


def main() -> None:
    (folder,) = map(Path, sys.argv[1:])
    check_installed_from_a_wheel()
    check_version()
    check_contents(*one_file(folder, "*.whl"), *one_file(folder, "*.tar.gz"))
    check_every_module_imports()
    check_distillation()
    print(
        f"keras_ats {keras_ats.__version__} from its wheel works with Keras {keras.__version__} "
        f"on {keras.backend.backend()}."
    )


def one_file(folder: Path, pattern: str) -> list[Path]:
    found = list(folder.glob(pattern))
    assert len(found) == 1, f"one {pattern} expected in {folder}, found {found}"
    return found


def check_installed_from_a_wheel() -> None:
    assert ROOT not in map(Path, sys.path), "the checkout is importable"
    assert Path.cwd() != ROOT
    package = Path(keras_ats.__file__).parent
    assert package != ROOT / "keras_ats"
    assert package == Path(DISTRIBUTION.locate_file("keras_ats"))
    source = json.loads(DISTRIBUTION.read_text("direct_url.json"))
    assert source["url"].endswith(".whl"), source


def check_version() -> None:
    text = (ROOT / "keras_ats" / "version.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert version == keras_ats.__version__ == DISTRIBUTION.version
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in citation, "CITATION.cff names another version"


def check_contents(wheel: Path, sdist: Path) -> None:
    """The wheel holds the package, whole, and nothing else; the sdist what builds and tests it."""
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "keras_ats").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert "keras_ats/py.typed" in expected
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected, packed ^ expected
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    missing = {*expected, "pyproject.toml", "LICENSE", "README.md", "tests/conftest.py"} - packed
    assert not missing, missing
    assert (Path(keras_ats.__file__).parent / "py.typed").is_file()


def check_every_module_imports() -> None:
    """Also those that `import keras_ats` leaves for later: none needs an extra to be imported."""

    def fail(name: str) -> None:
        raise ImportError(name)

    for module in pkgutil.walk_packages(keras_ats.__path__, "keras_ats.", onerror=fail):
        importlib.import_module(module.name)


def check_distillation() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype("float32")
    y = (x[:, :3]).argmax(axis=-1)

    def network(width: int) -> keras.Model:
        layers = keras.layers
        return keras.Sequential(
            [keras.Input((8,)), layers.Dense(width, "relu"), layers.Dense(3, "softmax")]
        )

    teacher, student = network(32), network(4)
    teacher.compile("adam", "sparse_categorical_crossentropy")
    teacher.fit(x, y, epochs=2, verbose=0)
    before = [weight.copy() for weight in teacher.get_weights()]
    start = [weight.copy() for weight in student.get_weights()]
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), metrics=["accuracy"])
    losses = distiller.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0], losses
    assert any((a != b).any() for a, b in zip(start, student.get_weights(), strict=True))
    for weight, expected in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)

    student.save("student.keras")
    np.save("x.npy", x)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", LOADING], env=environment, check=True)
    predictions = student.predict(x, verbose=0)
    np.testing.assert_allclose(np.load("loaded.npy"), predictions, atol=1e-6)


if __name__ == "__main__":
    main()
