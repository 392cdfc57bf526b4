"""Why a teacher teaches well, or does not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_ats import checks
from keras_ats.diagnostics.findings import look_at
from keras_ats.diagnostics.logits import Data, Reading, said_by
from keras_ats.diagnostics.report import Report
from keras_ats.teachers.live import TeacherInputs
from keras_ats.views.read import FromLogits


def diagnose(
    teacher: Any,
    data: Data,
    *,
    temperatures: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0),
    from_logits: FromLogits = None,
    inputs: TeacherInputs = None,
    output: str | None = None,
    ignore_label: int | None = None,
    batch_size: int = 256,
    verbose: bool = True,
) -> Report:
    """Says why a teacher teaches well, or does not; several teachers stand side by side.

    A large teacher often has a large correct logit and wrong logits that vary little, so that no
    one temperature makes its wrong classes tell apart. The report holds the numbers that show it:
    correct logit and spread of the wrong ones, derived average, derived and inherent variance over
    temperatures, under one and under ATS, entropy, calibration, accuracy, all of it by class too,
    and the temperatures that `suggest_temperatures` suggests.

    Args:
        teacher: A trained, built model, a `keras_ats.teachers.Teacher`, or an array of logits of
            shape `(N, C)`; or a list of these, or a dict of them by name.
        data: `(x, y)` of arrays, or an iterable of batches `(x, y)`; for several teachers one that
            can be gone through several times. Beside logits labels alone will do. Held-out samples
            are better: on those that it was trained on a teacher is surer.
        temperatures: Of the curves. Defaults to 1, 2, 3, 4, 6, 8, 10.
        from_logits: As `teacher_from_logits` of `Distiller`. Defaults to None.
        inputs: As `teacher_inputs` of `Distiller`. Defaults to None.
        output: Name of the output to look at, for models with several. Defaults to None.
        ignore_label: A class id whose positions are left out. Defaults to None.
        batch_size: Samples in a batch, where `data` are arrays. Defaults to 256.
        verbose: Whether to show a progress bar. Defaults to True.

    Returns:
        A `Report`: `print` it, or use `to_dict()`, `save("report.html")`, `plot()`.

    Raises:
        TypeError: If teacher or data are of another kind.
        ValueError: If labels do not fit the logits, or there are none.

    Example:

    ```python
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    x, y = np.random.rand(60, 8), np.random.randint(0, 3, 60)
    print(keras_ats.diagnose(teacher, (x, y)))
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """
    reading = Reading(from_logits, inputs, output, ignore_label, batch_size, verbose).checked()
    curve = tuple(
        checks.temperature(one, "temperatures")
        for one in checks.as_list(temperatures, "temperatures", "[1.0, 2.0, 4.0]")
    )
    if not curve:
        raise ValueError(
            "`temperatures` must hold at least one temperature. Received: temperatures="
            f"{temperatures!r}."
        )
    teachers = _named(teacher)
    if len(teachers) > 1 and isinstance(data, Iterator):
        raise TypeError(
            "`data` must be data that can be gone through once for each teacher. Received: "
            f"data={data!r} of type {type(data).__name__}, which is used up by the first of "
            f"{list(teachers)}. Expected: arrays (x, y), a list of batches, or a dataset."
        )
    found = [look_at(name, said_by(one, data, reading), curve) for name, one in teachers.items()]
    return Report(found)


def _named(teacher: Any) -> dict[str, Any]:
    if isinstance(teacher, Mapping):
        named = {str(name): one for name, one in teacher.items()}
    elif isinstance(teacher, list | tuple):
        named = {}
        for one in teacher:
            name = getattr(one, "name", "teacher")
            # Keras itself tells models of one name apart so.
            count = sum(1 for other in named if other == name or other.startswith(f"{name}_"))
            named[f"{name}_{count}" if count else name] = one
    else:
        named = {getattr(teacher, "name", "teacher"): teacher}
    if not named:
        raise ValueError(
            f"`teacher` must hold at least one teacher. Received: teacher={teacher!r}."
        )
    return named
