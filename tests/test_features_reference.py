"""Every loss on inner layers against a float64 reference of our own, value and gradient."""

import types

import feature_cases
import feature_reference as reference
import keras
import numpy as np
import pytest
from backends import cases_in_turn
from gradients import compiled_value_and_gradient
from keras import layers, ops

from keras_ats import features
from keras_ats.losses import ScaleDecoupledKD, TemperatureKD
from keras_ats.record import Classifier, Lesson, Outputs, Shapes

STUDENT, TEACHER, CLASSES = (5, 4, 4, 3), (5, 4, 4, 6), 4
LABELS = np.array([0, 3, 1, 2, 0])
IDS = np.array([7, 2, 15, 0, 9])
NORMALIZERS = 20.0, 30.0
DRAWN = np.random.default_rng(1).integers(0, feature_cases.SAMPLES, (5, 8))


def as_float64(one):
    return ops.convert_to_numpy(one).astype("float64")


def heads_of(*dense):
    return [(as_float64(one.kernel), as_float64(one.bias)) for one in dense]


def units_of(stack):
    pairs = zip(stack.convolutions, stack.normalizations, strict=True)
    return [tuple(as_float64(one) for one in (a.kernel, b.gamma, b.beta)) for a, b in pairs]


def hint(loss, student, teacher, heads):
    return reference.hint(student, teacher, *heads_of(loss.projectors[0])[0])


def orthogonal_hint(loss, student, teacher, heads):
    (projector,) = loss.projectors
    base, lower = as_float64(projector.base), as_float64(projector.lower)
    return reference.orthogonal_hint(student, teacher, base, lower, projector.transposed)


def attention_transfer(loss, student, teacher, heads):
    return reference.attention_transfer(student, teacher)


def neuron_selectivity(loss, student, teacher, heads):
    return reference.neuron_selectivity(student, teacher)


def variational_information(loss, student, teacher, heads):
    kernels = [as_float64(one.kernel) for one in loss.regressors[0]]
    return reference.variational_information(student, teacher, kernels, as_float64(loss.scales[0]))


def similarity_preserving(loss, student, teacher, heads):
    return reference.similarity_preserving(student, teacher)


def relational_distances(loss, student, teacher, heads):
    return reference.relational_distances(student, teacher, 25.0, 50.0)


def probabilistic_transfer(loss, student, teacher, heads):
    return reference.probabilistic_transfer(student, teacher)


def correlation_congruence(loss, student, teacher, heads):
    kernels, biases = zip(*heads_of(*loss.embeddings[0]), strict=True)
    return reference.correlation_congruence(student, teacher, kernels, biases)


SCALE, SHIFT = np.linspace(-2, 1, TEACHER[-1]), np.linspace(-1, 1, TEACHER[-1])


def feature_overhaul(loss, student, teacher, heads):
    (unit,) = units_of(loss.connectors[0])
    return reference.feature_overhaul(student, teacher, unit, SCALE, SHIFT)


def knowledge_review(loss, student, teacher, heads):
    fusions = [
        (
            *units_of(one.first),
            *units_of(one.second),
            None if one.attention is None else heads_of(one.attention)[0],
        )
        for one in loss.fusions
    ]
    levels = [[side, side.mean(axis=(1, 2), keepdims=True)] for side in (student, teacher)]
    return reference.knowledge_review(*levels, fusions)


def gaussian_wasserstein(loss, student, teacher, heads):
    (unit,) = units_of(loss.projectors[0])
    return reference.gaussian_wasserstein(student, teacher, unit, 4.0)


def reused_classifier(loss, student, teacher, heads):
    return reference.reused_classifier(student, teacher, units_of(loss.projectors[0]))


def class_attention(loss, student, teacher, heads):
    return reference.class_attention(student, teacher, heads, 2)


def contrastive_representation(loss, student, teacher, heads):
    banks = [as_float64(bank) for bank in loss.banks]
    embeddings = heads_of(*loss.embeddings)
    return reference.contrastive_representation(
        student, teacher, embeddings, banks, NORMALIZERS, IDS, DRAWN, 0.07
    )


def scale_decoupled_kd(loss, student, teacher, heads):
    return reference.scale_decoupled_kd(student, teacher, heads, LABELS, (1, 2), 3.0)


EXPECTED = {
    "hint": hint,
    "orthogonal_hint": orthogonal_hint,
    "attention_transfer": attention_transfer,
    "neuron_selectivity": neuron_selectivity,
    "variational_information": variational_information,
    "similarity_preserving": similarity_preserving,
    "relational_distances": relational_distances,
    "probabilistic_transfer": probabilistic_transfer,
    "correlation_congruence": correlation_congruence,
    "feature_overhaul": feature_overhaul,
    "knowledge_review": knowledge_review,
    "gaussian_wasserstein": gaussian_wasserstein,
    "reused_classifier": reused_classifier,
    "class_attention": class_attention,
    "contrastive_representation": contrastive_representation,
    "scale_decoupled_kd": scale_decoupled_kd,
}
CREATE = {name: case.create for name, case in feature_cases.CASES.items()} | {
    "scale_decoupled_kd": lambda *names, **options: ScaleDecoupledKD(
        *names, TemperatureKD(3.0), scales=(1, 2), **options
    )
}


def teacher_with_margins():
    """Has the layer whose BatchNormalization tells of margins."""
    model = keras.Sequential(
        [keras.Input(TEACHER[1:]), layers.BatchNormalization(name="layer")], name="teacher"
    )
    model.layers[0].set_weights([SCALE, SHIFT, np.zeros(TEACHER[-1]), np.ones(TEACHER[-1])])
    return model


def head(channels):
    dense = layers.Dense(CLASSES, bias_initializer="random_normal")
    dense.build((None, channels))
    return dense


def outputs_of(values, names):
    """What a model says whose layers are a map and the mean of it."""
    said = [values, ops.mean(values, axis=(1, 2))]
    return Outputs(None, features=dict(zip(names, said, strict=False)))


def test_every_loss_has_a_reference():
    methods = {type(create("a", "a")) for create in CREATE.values()}
    public = {getattr(features, name) for name in features.__all__}
    is_loss = {one for one in public if isinstance(one, type) and hasattr(one, "parts")}
    assert methods == (is_loss - {features.FeatureLoss}) | {ScaleDecoupledKD}
    assert list(EXPECTED) == list(CREATE)


@cases_in_turn("the arithmetic is that of keras.ops, whatever the backend")
@pytest.mark.parametrize("name", EXPECTED)
def test_value_and_gradient(name, rng, monkeypatch):
    student, teacher = (rng.normal(size=shape).astype("float32") for shape in (STUDENT, TEACHER))
    names = ["layer", "pool"] if name == "knowledge_review" else ["layer"]
    loss = CREATE[name](*[names if len(names) > 1 else "layer"] * 2, data_format="channels_last")
    heads = [head(shape[-1]) for shape in (STUDENT, TEACHER)]
    model = teacher_with_margins() if name == "feature_overhaul" else types.SimpleNamespace()
    loss.build(
        *(
            Shapes(
                features={"layer": (None, *shape[1:]), "pool": (None, shape[-1])},
                model=model,
                classifier=Classifier(dense, "layer"),
            )
            for shape, dense in zip((STUDENT, TEACHER), heads, strict=True)
        )
    )
    for variable in loss.variables:
        if variable.trainable:  # Scales, shifts and biases that are 1 or 0 would hide mistakes.
            variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    if name == "contrastive_representation":
        loss.log_normalizers.assign([*np.log(NORMALIZERS), 1.0])
        monkeypatch.setattr(loss, "draw", lambda count, training: DRAWN.astype("int32"))

    def of_student(values):
        lesson = Lesson(outputs_of(values, names), outputs_of(teacher, names), LABELS, ids=IDS)
        with keras.StatelessScope():
            (value,) = loss.parts(lesson).values()
        return value

    def expected(values):
        return EXPECTED[name](loss, values, teacher.astype("float64"), heads_of(*heads))

    value, gradient = compiled_value_and_gradient(of_student, student)
    np.testing.assert_allclose(value, expected(student.astype("float64")), rtol=2e-5)
    # Along two directions, by central differences. Upwards: where the terms of a slope cancel, what
    # is left of it in float32 is rounding.
    steepest = gradient / np.linalg.norm(gradient)
    for direction in rng.normal(size=(2, *STUDENT)):
        direction = steepest + direction * np.sign(np.sum(gradient * direction))
        step = 1e-5 * direction
        slope = (expected(student + step) - expected(student - step)) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=5e-4)
