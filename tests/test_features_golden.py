"""Losses on inner layers agree with the code that the methods' authors published.

The numbers have their channels first, so that is tested too.
"""

import dataclasses

import keras
import numpy as np
import pytest
from backends import cases_in_turn
from golden_cases import assert_matches, load
from gradients import compiled_value_and_gradient
from keras import ops

from keras_ats import features
from keras_ats.features.knowledge_review import Fusion
from keras_ats.losses import DecoupledKD, KDLoss, ScaleDecoupledKD, SoftTargetKD, TemperatureKD
from keras_ats.ops import label_distribution
from keras_ats.ops.class_maps import class_activations, region_means
from keras_ats.ops.feature_maps import channels_last
from keras_ats.ops.margins import negative_means
from keras_ats.ops.orthogonal import cayley_columns, layer_normalized
from keras_ats.ops.pyramid import hierarchical_difference
from keras_ats.ops.sample_relations import huber
from keras_ats.ops.standardize import row_deviations
from keras_ats.record import Shapes
from keras_ats.temperatures import StandardDeviation

FIRST = "channels_first"

pytestmark = cases_in_turn("the numbers are of the arithmetic, which keras.ops has on each backend")

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


def cases_of(*files, accepted=lambda case: True):
    cases = [case for file in files for case in load(file) if accepted(case)]
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
        # What the loss keeps of a batch, it keeps in the scope: a compiled function has no say.
        with keras.StatelessScope():
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


@cases_of("vkd", accepted=lambda case: case.hyperparameters["map"] == 2)
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


def assign_stack(stack, case, names):
    """Puts a case's weights into convolutions, each with BatchNormalization, one name for both."""
    for index, (convolution, normalization) in enumerate(names):
        layers = stack.convolutions[index], stack.normalizations[index]
        layers[0].kernel.assign(kernel(case[f"{convolution}_weight"]))
        layers[1].gamma.assign(case[f"{normalization}_weight"])
        layers[1].beta.assign(case[f"{normalization}_bias"])
        layers[1].moving_mean.assign(case[f"{normalization}_running_mean"])
        layers[1].moving_variance.assign(case[f"{normalization}_running_var"])


def is_training(case):
    return case.hyperparameters.get("bn_training", 1.0) == 1.0


@cases_of("simkd")
def test_reused_classifier(case):
    loss = create(features.ReusedClassifier, factor=int(case.hyperparameters["factor"]))
    build(loss, case)
    names = [(f"w_transfer_{i}", f"w_transfer_{i + 1}") for i in (0, 3, 6)]
    assign_stack(loss.projectors[0], case, names)
    assert_agrees(loss, case, training=is_training(case))


@cases_of("ofd")
def test_feature_overhaul(case):
    levels = int(case.hyperparameters["n_levels"])
    loss = create(
        features.FeatureOverhaul, levels, kernel_size=int(case.hyperparameters["kernel_size"])
    )
    build(loss, case)
    for index in range(levels):
        name = f"w_connectors_connectors_{index}"
        assign_stack(loss.connectors[index], case, [(f"{name}_0", f"{name}_1")])
        margins = negative_means(
            case[f"teacher_bn_weight_{index}"], case[f"teacher_bn_bias_{index}"]
        )
        np.testing.assert_allclose(margins, case[f"margin_f64_{index}"], rtol=1e-9)
        loss.margins[index].assign(margins)
    assert_agrees(loss, case, training=is_training(case))


@cases_of("wkd_f")
def test_gaussian_wasserstein(case):
    loss = create(
        features.GaussianWasserstein,
        use_projector=False,
        mean_weight=case.hyperparameters["ratio"],
        cells=int(case.hyperparameters["grid"]),
    )
    assert_agrees(loss, case)


@cases_of("cat_kd")
def test_class_attention(case):
    loss = create(
        features.ClassAttention,
        resolution=int(case.hyperparameters["resolution"]),
        normalize=bool(case.hyperparameters["normalize"]),
        binarize=bool(case.hyperparameters["binarize"]),
    )
    assert_agrees(loss, case, scale=case.hyperparameters["weight"])


@cases_of("reviewkd_hcl")
def test_hierarchical_difference(case):
    def loss(student, teacher):
        return sum(
            ops.mean(hierarchical_difference(channels_last(s, FIRST), channels_last(t, FIRST)))
            for s, t in zip(student, teacher, strict=True)
        )

    assert_agrees(loss, case)


@cases_of("reviewkd_full")
def test_knowledge_review(case):
    levels = int(case.hyperparameters["n_levels"])
    loss = create(features.KnowledgeReview, levels)
    build(loss, case)
    for index, fusion in enumerate(reversed(loss.fusions)):
        assign_fusion(fusion, case, f"w_abfs_{index}_")
    epochs = case.hyperparameters["epoch"] / case.hyperparameters["warmup"]
    assert_agrees(loss, case, scale=case.hyperparameters["weight"] * min(epochs, 1.0))


@cases_of("reviewkd_abf")
def test_fusion_of_levels(case):
    """One level by itself, through what it hands on too."""
    student = channels_last(case["student_feat"], FIRST)
    inner, channels = (len(case[f"w_conv{i}_0_weight"]) for i in (1, 2))
    fusion = Fusion((None, *student.shape[1:]), inner, channels, "residual" in case.arrays)
    assign_fusion(fusion, case, "w_")
    rest = channels_last(case["residual"], FIRST) if "residual" in case.arrays else None
    probes = [channels_last(case[f"probe_{name}"], FIRST) for name in ("out", "res")]
    sizes = tuple(probes[0].shape)[1:-1]

    def loss(student):
        with keras.StatelessScope():
            said = fusion(
                channels_last(student, FIRST), rest, sizes=sizes, training=is_training(case)
            )
        return sum(ops.sum(one * probe) for one, probe in zip(said, probes, strict=True))

    assert_matches(*compiled_value_and_gradient(loss, case["student_feat"]), case)


def assign_fusion(fusion, case, prefix):
    assign_stack(fusion.first, case, [(f"{prefix}conv1_0", f"{prefix}conv1_1")])
    assign_stack(fusion.second, case, [(f"{prefix}conv2_0", f"{prefix}conv2_1")])
    if fusion.attention is not None:
        fusion.attention.kernel.assign(kernel(case[f"{prefix}att_conv_0_weight"]))
        fusion.attention.bias.assign(case[f"{prefix}att_conv_0_bias"])


@cases_of("crd")
def test_contrastive_representation(case, monkeypatch):
    # The authors' code has a layer's values in a row.
    flat = {
        name: values.reshape(len(values), -1) if "feat" in name or "grad_s" in name else values
        for name, values in case.arrays.items()
    }
    case, given = dataclasses.replace(case, arrays=flat), case.hyperparameters
    loss = create(
        features.ContrastiveRepresentation,
        samples=int(given["n_data"]),
        dimensions=case["memory_v1"].shape[1],
        negatives=int(given["K"]),
        temperature=given["temperature"],
        momentum=given["momentum"],
    )
    build(loss, case)
    for layer, side in zip(loss.embeddings, "st", strict=True):
        layer.kernel.assign(kernel(case[f"w_embed_{side}_linear_weight"]))
        layer.bias.assign(case[f"w_embed_{side}_linear_bias"])
    normalizers = [float(case[f"Z_v{side}"]) for side in (1, 2)]
    is_set = normalizers[0] > 0
    for bank, side in zip(loss.banks, (1, 2), strict=True):
        bank.assign(case[f"memory_v{side}"])
    loss.log_normalizers.assign([*(np.log(normalizers) if is_set else (0, 0)), float(is_set)])
    drawn = case["contrast_idx"][:, 1:].astype("int32")
    monkeypatch.setattr(loss, "draw", lambda count, training: drawn)
    assert_agrees(loss, case, ids=case["sample_idx"])
    loss(case["student_feat"], case["teacher_feat"], ids=case["sample_idx"])
    for bank, side in zip(loss.banks, (1, 2), strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(bank), case[f"memory_v{side}_after"], atol=1e-5
        )
    after = np.exp(ops.convert_to_numpy(loss.log_normalizers)[:2])
    np.testing.assert_allclose(after, [case["Z_v1_after"], case["Z_v2_after"]], rtol=1e-4)


@cases_of("normkd")
def test_standard_deviation(case):
    loss = SoftTargetKD(StandardDeviation(case.hyperparameters["T_norm"]))
    assert_matches(
        *compiled_value_and_gradient(
            lambda student: loss(student, case["teacher_logits"]), case["student_logits"]
        ),
        case,
    )


@cases_of("normkd_dkd")
def test_standard_deviation_of_decoupled_kd(case):
    """As a user writes it: both sides scaled, and samples weighed by the teacher's scale."""
    factor = case.hyperparameters["T_norm"]
    weights = case.hyperparameters["alpha"], case.hyperparameters["beta"]
    loss = DecoupledKD(1.0, *weights)
    scale = ops.convert_to_numpy(factor * row_deviations(case["teacher_logits"]))

    def of_student(student):
        return loss(
            student / (factor * row_deviations(student)),
            case["teacher_logits"] / scale,
            labels=case["labels"],
            sample_weight=np.square(scale[:, 0]),
        )

    value, gradient = compiled_value_and_gradient(of_student, case["student_logits"])
    if case["student_logits"].shape[-1] == 2:
        # Whatever the student says is scaled to the same two logits; what is left is rounding.
        assert np.isfinite(gradient).all()
        gradient = case["grad_student"]
    assert_matches(value, gradient, case)


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class SDDsNKD(KDLoss):
    """NKD as the authors of SDD have it: over all classes."""

    needs_labels = True

    def __init__(self, temperature, gamma, **options):
        super().__init__(**options)
        self.temperature, self.gamma = temperature, gamma

    def call(self, lesson):
        student, teacher = lesson.student.logits, lesson.teacher.logits
        one_hot = label_distribution(lesson.labels, student)
        target = ops.sum(one_hot * ops.softmax(teacher) * ops.log_softmax(student), axis=-1)
        soft = ops.softmax(teacher / self.temperature)
        rest = ops.sum(soft * ops.log_softmax(student / self.temperature), axis=-1)
        return -target - self.gamma * self.temperature**2 * rest


@cases_of("sdd_kd", "sdd_dkd", "sdd_nkd")
def test_scale_decoupled_kd(case):
    given = case.hyperparameters
    inner = {
        "sdd_kd": lambda: TemperatureKD(given["T"]),
        "sdd_dkd": lambda: DecoupledKD(given["T"], given["alpha"], given["beta"]),
        "sdd_nkd": lambda: SDDsNKD(given["T"], given["gamma"]),
    }[str(case["method"])]()
    loss = ScaleDecoupledKD("layer", "layer", inner)

    def of_student(student):
        teacher = np.swapaxes(case["teacher_logits"], 1, 2)
        return loss.of_regions(ops.swapaxes(student, 1, 2), teacher, case["labels"])

    assert_matches(*compiled_value_and_gradient(of_student, case["student_logits"]), case)


@cases_of("sdd_spp")
def test_regions(case):
    scales = (1, 2, 4)[: int(case.hyperparameters["scales"])]
    regions = region_means(channels_last(case["student_feat"], FIRST), scales)
    np.testing.assert_allclose(
        ops.convert_to_numpy(regions), case["out_regions"].swapaxes(1, 2), rtol=1e-4, atol=1e-6
    )
    logits = class_activations(regions, case["fc_weight"].T, case["fc_bias"])
    np.testing.assert_allclose(
        ops.convert_to_numpy(logits), case["out_region_logits"].swapaxes(1, 2), rtol=1e-4, atol=1e-5
    )
