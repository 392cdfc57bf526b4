"""Losses on inner layers agree with the code that the methods' authors published.

The numbers have their channels first, so that is tested too.
"""

import numpy as np
import pytest
from golden_cases import assert_matches, load
from gradients import compiled_value_and_gradient
from keras import ops

from keras_ats import features
from keras_ats.ops.orthogonal import cayley_columns, layer_normalized
from keras_ats.ops.sample_relations import huber
from keras_ats.record import Shapes

REPDISTILLER = {
    "at": features.AttentionTransfer,
    "sp": features.SimilarityPreserving,
    "nst": features.NeuronSelectivity,
    "rkd": features.RelationalDistances,
    "pkt": features.ProbabilisticTransfer,
    "cc": lambda *names, **options: features.CorrelationCongruence(
        *names, dimensions=None, **options
    ),
    "fitnet": lambda *names, **options: features.Hint(*names, projector=None, **options),
}


def cases_of(file, accepted=lambda case: True):
    cases = [case for case in load(file) if accepted(case)]
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def create(loss, levels=1, **options):
    names = "layer" if levels == 1 else [f"layer{level}" for level in range(levels)]
    return loss(names, names, data_format="channels_first", **options)


def levels_of(case, side):
    """What the layers say in a case, shallow to deep."""
    if f"{side}_feat" in case.arrays:
        return [case[f"{side}_feat"]]
    names = sorted(name for name in case.arrays if name.startswith(f"{side}_feat_"))
    return [case[name] for name in names if name[-1].isdigit()]


def build(loss, case):
    """Makes the loss's layers for the shapes of a case."""
    shapes = [
        Shapes(
            features={
                name: (None, *one.shape[1:])
                for name, one in zip(names, levels_of(case, side), strict=True)
            }
        )
        for side, names in (("student", loss.student_names), ("teacher", loss.teacher_names))
    ]
    loss.build(*shapes)


def kernel(weight):
    """A layer's kernel of PyTorch's weight; a 1x1 convolution is a linear layer here."""
    if weight.ndim == 2 or weight.shape[2:] == (1, 1):
        return weight.reshape(weight.shape[:2]).T
    return weight.transpose(2, 3, 1, 0)


def value_and_gradients(loss, student, teacher, **options):
    """The loss and its gradient in each of the student's layers."""
    sizes = np.cumsum([one.size for one in student])[:-1].tolist()

    def of_flat(values):
        parts = ops.split(values, sizes) if sizes else [values]
        parts = [ops.reshape(part, one.shape) for part, one in zip(parts, student, strict=True)]
        return loss(parts, teacher, **options)

    flat = np.concatenate([one.ravel() for one in student])
    value, gradient = compiled_value_and_gradient(of_flat, flat)
    parts = np.split(gradient, sizes)
    return value, [part.reshape(one.shape) for part, one in zip(parts, student, strict=True)]


def assert_agrees(loss, case, scale=1.0, **options):
    """Compares value and gradients with those of a case."""
    student, teacher = levels_of(case, "student"), levels_of(case, "teacher")
    value, gradients = value_and_gradients(loss, student, teacher, **options)
    np.testing.assert_allclose(scale * value, case["loss"], rtol=2e-3, atol=1e-4)
    names = (
        ["grad_student"]
        if "grad_student" in case.arrays
        else [f"grad_student_{level}" for level in range(len(student))]
    )
    for name, gradient in zip(names, gradients, strict=True):
        expected = case[name]
        slack = 1e-2 * np.max(np.abs(expected)) + 1e-5
        np.testing.assert_allclose(scale * gradient, expected, rtol=0, atol=slack)


@cases_of("features_repdistiller")
def test_methods_of_repdistiller(case):
    assert_agrees(create(REPDISTILLER[str(case["method"])]), case)


@cases_of("vid")
def test_variational_information(case):
    loss = create(
        features.VariationalInformation,
        initial_variance=case.hyperparameters["init_pred_var"],
        hidden_channels=len(case["w_regressor_0_weight"]),
        epsilon=case.hyperparameters["eps"],
    )
    build(loss, case)
    for layer, name in zip(loss.regressors[0], ("0", "2", "4"), strict=True):
        layer.kernel.assign(kernel(case[f"w_regressor_{name}_weight"]))
    loss.scales[0].assign(case["w_log_scale"])
    assert_agrees(loss, case)


@cases_of("vkd")
def test_orthogonal_hint(case):
    """The value for the authors' matrix, whatever map it comes from."""
    matrix, alpha = case["w_weight_effective"].astype("float32"), case.hyperparameters["alpha"]
    teacher = layer_normalized(ops.mean(case["teacher_feat"], axis=(2, 3)))

    def of_student(student):
        projected = ops.matmul(ops.mean(student, axis=1), ops.transpose(matrix))
        return alpha * ops.mean(huber(projected - teacher))

    assert_matches(*compiled_value_and_gradient(of_student, case["student_feat"]), case)


@cases_of("vkd", lambda case: case.hyperparameters["map"] == 2)
def test_cayleys_map(case):
    """Hint as VkD is used, its projector at the authors' parameters."""
    loss = features.Hint(
        "tokens",
        "map",
        projector="orthogonal",
        normalize=True,
        pool=True,
        distance="huber",
        data_format="channels_last",
    )
    student, teacher = case["student_feat"], np.moveaxis(case["teacher_feat"], 1, -1)
    loss(student, teacher)
    (projector,) = loss.projectors
    lower = (
        case["w_param"]
        if case["w_param"].shape == tuple(projector.lower.shape)
        else (case["w_param"].T)
    )
    projector.lower.assign(lower)
    projector.base.assign(case["w_base"])
    np.testing.assert_allclose(
        ops.convert_to_numpy(projector.matrix), case["w_weight_effective"], atol=1e-5
    )
    value, (gradient,) = value_and_gradients(loss, [student], [teacher])
    alpha = case.hyperparameters["alpha"]
    assert_matches(alpha * value, alpha * gradient, case)


@pytest.mark.parametrize("shape", [(9, 2), (5, 4), (4, 4), (3, 1)])
def test_columns_are_orthonormal(shape, rng):
    columns = ops.convert_to_numpy(cayley_columns(rng.normal(size=shape).astype("float32")))
    np.testing.assert_allclose(columns.T @ columns, np.eye(shape[1]), atol=1e-5)
