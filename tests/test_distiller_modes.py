"""Point 9: however it is run, and however the models are written, the same numbers come out."""

import functools
import warnings

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD

BATCH, SAMPLES = 4, 20
BACKEND = keras.backend.backend()


def _data():
    return models.features(np.random.default_rng(3), samples=SAMPLES)


def _distiller(**compile_arguments):
    """BatchNormalization, a softmax and L2: what a mode could treat differently."""
    keras.utils.set_random_seed(1)
    student = keras.Sequential(
        [
            keras.Input((models.FEATURES,)),
            layers.Dense(6, kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dense(models.CLASSES, "softmax", activity_regularizer="l2"),
        ]
    )
    distiller = keras_ats.Distiller(models.sequential(8, softmax=True), student)
    compile_arguments = {"optimizer": keras.optimizers.SGD(0.2), **compile_arguments}
    distiller.compile(
        kd_loss=AsymmetricTemperatureKD(),
        metrics=["accuracy"],
        evaluate_teacher=True,
        **compile_arguments,
    )
    return distiller


def _fit(distiller, **arguments):
    x, y = _data()
    arguments = {"batch_size": BATCH, "epochs": 2, "validation_data": (x, y), **arguments}
    history = distiller.fit(x, y, shuffle=False, verbose=0, **arguments).history
    return history, distiller.student.get_weights()


@functools.cache
def _expected():
    return _fit(_distiller())


def _assert_same(run, expected):
    (logs, weights), (expected_logs, expected_weights) = run, expected
    assert sorted(logs) == sorted(expected_logs)
    for name in expected_logs:
        np.testing.assert_allclose(logs[name], expected_logs[name], atol=1e-5, err_msg=name)
    for weight, expected_weight in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(weight, expected_weight, atol=1e-5)


@pytest.mark.parametrize(
    "mode",
    [
        {"jit_compile": False},
        {"run_eagerly": True},
        pytest.param(
            {"jit_compile": True},
            marks=pytest.mark.skipif(BACKEND == "torch", reason="has a test of its own"),
        ),
        pytest.param(
            {"steps_per_execution": 2},  # Five batches: the last execution is a shorter one.
            marks=pytest.mark.skipif(BACKEND == "torch", reason="Keras refuses it on torch"),
        ),
    ],
    ids=str,
)
def test_every_mode_gives_the_same_run(mode):
    _assert_same(_fit(_distiller(**mode)), _expected())


def test_the_default_compiles_like_the_plain_student():
    distiller = _distiller()
    student = models.sequential()
    student.compile("sgd")
    assert distiller.jit_compile == student.jit_compile
    assert not distiller.run_eagerly


def _inductor_fault():
    """What a plain student fails with under torch.compile, if it does."""
    x, y = _data()
    student = models.sequential()
    student.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True
    )
    try:
        student.fit(x, y, batch_size=BATCH, verbose=0)
    except Exception as error:  # Whatever it is, it is not ours.
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile is torch's")
@pytest.mark.parametrize("compiler", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile(compiler, monkeypatch, request):
    """Ours is whether the step can be traced; inductor then makes C++ of it, for minutes."""
    if compiler == "inductor" and not request.config.getoption("--every-case"):
        pytest.skip("with --every-case")
    import torch

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=compiler))
    # Batches of one shape: another would be traced anew.
    brief = {"epochs": 1, "validation_data": None, "steps_per_epoch": 2}
    expected = _fit(_distiller(), **brief)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile warns of many things of its own.
        try:
            run = _fit(_distiller(jit_compile=True), **brief)
        except Exception:
            if fault := _inductor_fault():
                pytest.skip(f"a plain student does not train with jit_compile=True: {fault}")
            raise
    _assert_same(run, expected)


def test_gradient_accumulation_equals_a_larger_batch(rng):
    x, y = models.features(rng)
    start = models.sequential(4).get_weights()
    teacher = models.sequential(8)

    def weights(batch_size, **accumulation):
        student = models.sequential(4)
        student.set_weights(start)
        distiller = keras_ats.Distiller(teacher, student)
        distiller.compile(
            keras.optimizers.SGD(0.5, **accumulation), kd_loss=AsymmetricTemperatureKD()
        )
        distiller.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        return student.get_weights()

    expected = weights(8)
    assert np.abs(expected[0] - start[0]).max() > 1e-3
    for weight, weight_expected in zip(
        weights(4, gradient_accumulation_steps=2), expected, strict=True
    ):
        np.testing.assert_allclose(weight, weight_expected, atol=1e-5)


def test_batch_by_batch_equals_fit():
    x, y = _data()
    distiller = _distiller()
    history = {}
    for _ in range(2):
        # One batch has logs of its own; the epoch's are their mean.
        logs = {}
        for step, prefix in ((distiller.train_on_batch, ""), (distiller.test_on_batch, "val_")):
            batches = []
            for part in models.batches(x, y, size=BATCH):
                distiller.reset_metrics()  # `train_on_batch` does so only since Keras 3.15.
                batches.append(step(*part, return_dict=True))
            logs |= {
                f"{prefix}{name}": np.mean([batch[name] for batch in batches])
                for name in batches[0]
            }
        for name, value in logs.items():
            history.setdefault(name, []).append(value)
    _assert_same((history, distiller.student.get_weights()), _expected())


def test_on_batch_without_the_teacher():
    x, y = _data()
    distiller = _distiller()
    distiller.evaluate_teacher = False
    logs = distiller.test_on_batch(x, y, return_dict=True)
    assert sorted(logs) == ["accuracy", "loss", "student_loss"]
    assert logs == pytest.approx(distiller.evaluate(x, y, verbose=0, return_dict=True), abs=1e-5)


def test_predict_on_batch():
    x, _ = _data()
    distiller = _distiller()
    expected = distiller.student.predict(x, verbose=0)
    np.testing.assert_allclose(expected.sum(-1), 1, atol=1e-5)
    for predictions in (
        distiller.predict_on_batch(x),
        distiller.predict(x, batch_size=BATCH, verbose=0),
        keras.ops.convert_to_numpy(distiller(x)),
        keras.ops.convert_to_numpy(distiller(x, training=False)),
    ):
        np.testing.assert_allclose(predictions, expected, atol=1e-6)


# ---------------------------------------------------------------- ways of writing a model


def _two_inputs(form, width, split=2):
    """`models.sequential`, but its features come in two parts."""
    parts = [
        keras.Input((split,), name="left"),
        keras.Input((models.FEATURES - split,), name="right"),
    ]
    inputs = {"left": parts[0], "right": parts[1]} if form == "dict" else parts
    hidden = layers.Dense(width, "tanh")(layers.Concatenate()(parts))
    return keras.Model(inputs, layers.Dense(models.CLASSES)(hidden))


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class TwoInputs(models.Subclassed):
    """The same as a class."""

    def __init__(self, form, width):
        super().__init__(width)
        self.form = form

    def build(self, input_shape):
        super().build((None, models.FEATURES))

    def call(self, inputs):
        parts = [inputs["left"], inputs["right"]] if self.form == "dict" else inputs
        return super().call(keras.ops.concatenate(parts, axis=-1))


def _subclassed_two_inputs(form, width):
    model = TwoInputs(form, width)
    model.build(None)
    return model


WRITINGS = {
    "sequential": (models.sequential, None),
    "functional": (models.functional, None),
    "subclassed": (models.subclassed, None),
    "list": (functools.partial(_two_inputs, "list"), "list"),
    "dict": (functools.partial(_two_inputs, "dict"), "dict"),
    "subclassed_list": (functools.partial(_subclassed_two_inputs, "list"), "list"),
    "subclassed_dict": (functools.partial(_subclassed_two_inputs, "dict"), "dict"),
}


@functools.cache
def _run_of(teacher_writing, student_writing):
    keras.utils.set_random_seed(1)
    weights = models.sequential(8).get_weights(), models.sequential(4).get_weights()
    build_teacher, _ = WRITINGS[teacher_writing]
    build_student, form = WRITINGS[student_writing]
    teacher, student = build_teacher(width=8), build_student(width=4)
    teacher.set_weights(weights[0])
    student.set_weights(weights[1])
    said = {
        f"{role}_from_logits": True
        for role, writing in (("teacher", teacher_writing), ("student", student_writing))
        if "subclassed" in writing
    }
    distiller = keras_ats.Distiller(teacher, student, **said)
    distiller.compile(
        keras.optimizers.SGD(0.5), kd_loss=AsymmetricTemperatureKD(), metrics=["accuracy"]
    )
    x, y = _data()
    inputs = {"list": [x[:, :2], x[:, 2:]], "dict": {"left": x[:, :2], "right": x[:, 2:]}}
    inputs = inputs.get(form, x)
    logs = distiller.fit(inputs, y, batch_size=10, shuffle=False, verbose=0).history
    np.testing.assert_allclose(
        distiller.predict(inputs, verbose=0), student.predict(inputs, verbose=0), atol=1e-6
    )
    return logs, student.get_weights()


@cases_in_turn("each way of writing is read on every backend in test_views_table.py")
@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("functional", "functional"),
        ("sequential", "functional"),
        ("functional", "sequential"),
        ("subclassed", "subclassed"),
        ("list", "list"),
        ("dict", "dict"),
        ("subclassed_list", "list"),
        ("dict", "subclassed_dict"),
    ],
)
def test_every_way_of_writing_the_models_gives_the_same_run(teacher, student):
    _assert_same(_run_of(teacher, student), _run_of("sequential", "sequential"))
