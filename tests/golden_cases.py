"""Golden values (see golden/README.md) as test cases."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class GoldenCase:
    """One set of inputs and what the method's public code made of it."""

    id: str
    kind: str
    arrays: dict[str, np.ndarray]
    hyperparameters: dict[str, float]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def each_case(*files: str) -> pytest.MarkDecorator:
    """Runs a test once for every case of these files, as its argument `case`."""
    cases = [case for file in files for case in load(file)]
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def load(file: str) -> list[GoldenCase]:
    with np.load(FOLDER / f"{file}.npz") as values:
        return [_case(file, values, index) for index in range(int(values["n_cases"]))]


def assert_matches(loss: float, gradient: np.ndarray, case: GoldenCase) -> None:
    """Compares float32 results with the float64 ones of `case`, which are all finite."""
    np.testing.assert_allclose(loss, case["loss"], rtol=2e-3, atol=1e-4)
    expected = case["grad_student"]
    slack = 1e-2 * np.max(np.abs(expected)) + 1e-5
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=slack)


def _case(file: str, values: np.lib.npyio.NpzFile, index: int) -> GoldenCase:
    prefix = f"c{index:02d}_"
    arrays = {
        name.removeprefix(prefix): values[name] for name in values.files if name.startswith(prefix)
    }
    kind = str(arrays.pop("kind", arrays.get("method")))
    hyperparameters = {
        name.removeprefix("hp_"): float(arrays.pop(name))
        for name in list(arrays)
        if name.startswith("hp_")
    }
    shape = next((array.shape for array in arrays.values() if array.ndim > 1), ())
    return GoldenCase(
        id="-".join([file, kind, "x".join(map(str, shape))]),
        kind=kind,
        arrays=arrays,
        hyperparameters=hyperparameters,
    )
