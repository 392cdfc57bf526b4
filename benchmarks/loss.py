"""What a distillation loss costs in time and memory, beside a cross-entropy.

    KERAS_BACKEND=torch python benchmarks/loss.py [--shape 1024 32000] [--short] [--output]

Value and gradient of the objective that a step minimises, half labels and half teacher, from logits
in memory; with `--rivals` DKD, NKD and RLD take the places of ATS and KD, each once more in the
plain form, whose gradient the backend makes of the whole batch. The floor is what no distillation
can do without: the labels' cross-entropy with its gradient, and the teacher's softmax. Memory is
the peak beyond both logits; the gradient, as large as one of them, is part of it for every
contestant. On JAX all is compiled by XLA, and on TensorFlow where `fit` does it too, which it does
not on a CPU. See `harness` for how it is measured.
"""

import argparse
from collections.abc import Callable

import harness
import keras
import numpy as np
from keras import ops

import keras_ats

SHAPES = ((128, 100), (1024, 1000), (1024, 32_000))
# Enough calls that a clock sees them.
CALLS = {100: 100, 1000: 10, 32_000: 1}
TEMPERATURE = 4.0

Objective = Callable[[object, object, object], tuple[object, object]]


def main() -> None:
    arguments = harness.parse_arguments(
        __doc__,
        add_options,
    )
    shapes = [tuple(arguments.shape)] if arguments.shape else list(SHAPES)
    if arguments.short and not arguments.shape:
        shapes = shapes[:2]
    for rows, classes in shapes:
        measure(rows, classes, arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this script takes besides the harness's options."""
    parser.add_argument(
        "--shape", type=int, nargs=2, help="rows and classes; all three shapes by default"
    )
    parser.add_argument("--rivals", action="store_true", help="DKD, NKD and RLD")


def measure(rows: int, classes: int, arguments: argparse.Namespace) -> None:
    """Measures one shape and publishes it."""
    runs = contestants(rows, classes, arguments.rivals)
    memory = {name: round(harness.peak_mib(run), 1) for name, run in runs.items()}
    calls = CALLS.get(classes, 1)
    rounds = harness.measure(
        {name: repeated(run, calls) for name, run in runs.items()}, arguments, calls=calls
    )
    found = harness.report(
        rounds,
        {f"{name} / floor": (name, "floor") for name in runs if name != "floor"},
        f"milliseconds for value and gradient, {rows} rows of {classes} classes",
        peak_mib_beyond_logits=memory,
        mib_of_one_array=round(4 * rows * classes / 2**20, 1),
    )
    subject = "rivals" if arguments.rivals else "loss"
    harness.publish(found, f"{subject}_{keras.backend.backend()}_{rows}x{classes}", arguments)
    for name, mib in memory.items():
        print(f"  {name:<52} {mib:9.1f} MiB")


def contestants(rows: int, classes: int, rivals: bool) -> dict[str, harness.Contestant]:
    """One callable per contestant, each for value and gradient."""
    rng = np.random.default_rng(0)
    student = ops.convert_to_tensor(rng.standard_normal((rows, classes), dtype="float32"))
    teacher = ops.convert_to_tensor(3 * rng.standard_normal((rows, classes), dtype="float32"))
    labels = ops.convert_to_tensor(rng.integers(0, classes, rows).astype("int32"))
    supervised = keras_ats.losses.LabelCrossentropy()
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    stock = keras.distillation.LogitsDistillation(TEMPERATURE, loss=keras.losses.KLDivergence())

    def floor(student: object, teacher: object, labels: object) -> tuple[object, object]:
        return crossentropy(labels, student), ops.softmax(teacher, axis=-1)

    def ours(loss: keras_ats.losses.KDLoss) -> Objective:
        def objective(student: object, teacher: object, labels: object) -> tuple[object, object]:
            kd_loss = loss(student, teacher, labels=labels)
            return 0.5 * supervised(labels, student) + 0.5 * kd_loss, ()

        return objective

    def theirs(student: object, teacher: object, labels: object) -> tuple[object, object]:
        kd_loss = stock.compute_loss(teacher, student)
        return 0.5 * crossentropy(labels, student) + 0.5 * kd_loss, ()

    objectives = {
        "floor": floor,
    }
    if rivals:
        for loss in (
            keras_ats.losses.DecoupledKD(),
            keras_ats.losses.NormalizedKD(),
            keras_ats.losses.RefinedLogitKD(),
        ):
            name = type(loss).__name__
            objectives |= {name: ours(loss), f"{name}, plain form": ours(in_plain_form(loss))}
    else:
        objectives |= {
            "keras_ats ATS": ours(keras_ats.losses.AsymmetricTemperatureKD(4.0, 2.0)),
            "keras_ats KD": ours(keras_ats.losses.TemperatureKD(TEMPERATURE)),
            "keras.distillation KD": theirs,
        }
    return {
        name: differentiated(objective, student, teacher, labels)
        for name, objective in objectives.items()
    }


def in_plain_form(loss: keras_ats.losses.KDLoss) -> keras_ats.losses.KDLoss:
    """The same loss without a gradient of its own."""
    plain = type(loss).call.__wrapped__
    return type(f"Plain{type(loss).__name__}", (type(loss),), {"call": plain})()


def differentiated(
    objective: Objective, student: object, teacher: object, labels: object
) -> harness.Contestant:
    """Value and gradient of an objective, compiled where the backend compiles."""
    if keras.backend.backend() == "torch":
        leaf = student.detach().clone().requires_grad_()

        def run() -> object:
            leaf.grad = None
            value, rest = objective(leaf, teacher, labels)
            value.backward()
            return value, rest

        return run
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(jax.value_and_grad(objective, has_aux=True))
        return lambda: jax.block_until_ready(step(student, teacher, labels))
    import tensorflow as tf

    model = keras.Sequential()
    model.compile()

    @tf.function(jit_compile=model.jit_compile)
    def step(student: object, teacher: object, labels: object) -> object:
        with tf.GradientTape() as tape:
            tape.watch(student)
            value, rest = objective(student, teacher, labels)
        return value, rest, tape.gradient(value, student)

    return lambda: [
        one.numpy().ravel()[:1] for one in tf.nest.flatten(step(student, teacher, labels))
    ]


def repeated(run: harness.Contestant, calls: int) -> harness.Contestant:
    def run_all() -> None:
        for _ in range(calls):
            run()

    return run_all


if __name__ == "__main__":
    main()
