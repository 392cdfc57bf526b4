"""What docs/other_code.md says of losses on logits is true, entry by entry.

The page holds the calls, this file the number that each must give: what the other code gave on
logits and labels of a golden case, with the weights of that entry.
"""

import functools

import golden_cases
import keras
import numpy as np
import pytest
import reference
from backends import on_one_backend
from other_code import entries

from keras_ats import Distiller, adjustments, losses, temperatures

ENTRIES = entries("Losses on logits")


def label_crossentropy(case):
    return reference.label_crossentropy(case["labels"], case["student_logits"])[0].mean()


def keras_distillation(case):
    """Stock Keras, live: half the labels' cross-entropy, half its logits distillation."""
    loss = keras.distillation.LogitsDistillation(3.0, loss=keras.losses.KLDivergence())
    value = loss.compute_loss(case["teacher_logits"], case["student_logits"])
    return 0.5 * label_crossentropy(case) + 0.5 * float(keras.ops.convert_to_numpy(value))


def keras_io(case):
    """Its `Distiller.compute_loss` at alpha=0.1 and temperature=10."""
    values, _ = reference.kd(case["student_logits"], case["teacher_logits"], 10.0)
    return 0.1 * label_crossentropy(case) + 0.9 * values.mean()


def keras_io_of_2020(case):
    values, _ = reference.kd(case["student_logits"], case["teacher_logits"], 10.0)
    return 0.1 * label_crossentropy(case) + 0.9 * values.mean() / 10.0**2


def torchdistill(case):
    values, _ = reference.kd(case["student_logits"], case["teacher_logits"], 4.0)
    return 0.3 * label_crossentropy(case) + 0.7 * values.mean()


def torchdistill_without_labels(case):
    values, _ = reference.kd(case["student_logits"], case["teacher_logits"], 4.0)
    return values.mean() / 4.0**2


def deit(case):
    """The mean of two cross-entropies: with the labels, and with the teacher's classes."""
    decisions = case["teacher_logits"].argmax(axis=-1)
    values, _ = reference.label_crossentropy(decisions, case["student_logits"])
    return 0.5 * label_crossentropy(case) + 0.5 * values.mean()


def stored(kd_weight=1.0, student_weight=0.0):
    """The number of the golden case, to which its own code adds the labels elsewhere."""
    return lambda case: (
        kd_weight * case["loss"]
        + (student_weight * label_crossentropy(case) if student_weight else 0.0)
    )


# Their call, as the page has it: the golden file, the case in it, and what their code says there.
THEIRS = {
    "tp_tau=4, t_tau=2, s_tau=1, lamb=0.5": ("ats_lxcnju", 6, stored()),
    "tp_tau=3, t_tau=2, s_tau=2, lamb=0.5": ("ats_lxcnju", 5, stored()),
    "alpha=0.1, temperature=10": ("kd_mdistiller", 4, keras_io),
    "loss = alpha * student_loss + (1 - alpha) * distillation_loss": (
        "kd_mdistiller",
        4,
        keras_io_of_2020,
    ),
    "LogitsDistillation(3.0, loss=KLDivergence()), student_loss_weight=0.5": (
        "kd_mdistiller",
        4,
        keras_distillation,
    ),
    "KDLoss(temperature=4, alpha=0.3)": ("kd_mdistiller", 4, torchdistill),
    "KDLoss(temperature=4, alpha=0, beta=1)": ("kd_mdistiller", 4, torchdistill_without_labels),
    "LogitStdKDLoss(temperature=2, alpha=0.1, beta=0.9)": ("logit_std_kd", 3, stored(0.9, 0.1)),
    "KD.TEMPERATURE 4, CE_WEIGHT 0.1, KD_WEIGHT 0.9": ("kd_total_mdistiller", 4, stored()),
    "KD.TEMPERATURE 2, CE_WEIGHT 1.0, KD_WEIGHT 0.5": ("kd_total_mdistiller", 5, stored()),
    "DKD.T 4, ALPHA 1.0, BETA 8.0, CE_WEIGHT 1.0, WARMUP 20": (
        "dkd_total_mdistiller",
        3,
        stored(),
    ),
    "--distill kd --kd_T 4 -r 0.1 -a 0.9 -b 0": ("kd_repdistiller", 3, stored(0.9, 0.1)),
    "temperature=4": ("kd_ce_clskd", 4, stored(1 / (0.5 * 4.0**2))),
    'temperature=8, temperature_scheduler=["flsw", 1, 2]': ("dtd_flsw_textbrewer", 4, stored()),
    'temperature=8, temperature_scheduler=["cwsm", 0.5]': ("dtd_cwsm_textbrewer", 4, stored()),
    'temperature=4, temperature_scheduler=["flsw", 2, 1], probability_shift=True': (
        "dtd_flsw_textbrewer",
        5,
        stored(),
    ),
    "KDLoss(temp=4.0, alpha=0.5)": ("kd_ce_clskd", 4, stored(1.0, 0.5)),
    "NKDLoss(temp=3.0, gamma=3.5)": ("nkd_clskd", 5, stored(1.0, 1.0)),
    "DIST(beta=1, gamma=1, tau=4)": ("dist_hunto", 5, stored(2.0, 1.0)),
    "--distill ttm --ttm_l 0.1 -r 1 -b 45": ("ttm_zkxufo", 4, stored(45.0, 1.0)),
    "--distill wttm --ttm_l 0.1 -r 1 -b 4": ("wttm_zkxufo", 4, stored(4.0, 1.0)),
    "--logit-stand --base-temp 2 --kd-weight 9": ("logit_std_kd", 3, stored(9.0, 0.1)),
    "-r 0.1 -a 0.9 --t_start 1 --t_end 20": ("ctkd_zhengli97", 3, stored()),
    "RLD.T 4, ALPHA 1, BETA 8, ALPHA_T 1, CE_WEIGHT 1": ("rld_zjuswj", 3, stored(1.0, 1.0)),
    "--distillation-type hard --distillation-alpha 0.5": ("kd_mdistiller", 4, deit),
    "mse_logit": ("logit_mse_kddata", 4, stored()),
}


def picker(part, classes):
    """A model that returns one half of its input: so the logits of a case become a student's."""
    model = keras.Sequential(
        [keras.Input((2 * classes,)), keras.layers.Dense(classes, use_bias=False)]
    )
    kernel = np.zeros((2, classes, classes), "float32")
    kernel[part] = np.eye(classes)
    model.set_weights([kernel.reshape(2 * classes, classes)])
    return model


def first_loss(entry, case):
    """The objective that `fit` reports for the batch."""
    classes = case["student_logits"].shape[-1]
    distiller = Distiller(teacher=picker(1, classes), student=picker(0, classes))
    entry.compile(functools.partial(distiller.compile, "sgd"), losses, temperatures, adjustments)
    x = np.concatenate([case["student_logits"], case["teacher_logits"]], axis=-1)
    return distiller.train_on_batch(x, case["labels"], return_dict=True)["loss"]


def test_every_entry_has_its_number():
    assert sorted(entry.their_call for entry in ENTRIES) == sorted(THEIRS)


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=[f"{entry.origin}: {entry.their_call}" for entry in ENTRIES]
)
@on_one_backend("the golden tests have these losses on each")
def test_an_entry_gives_the_number_of_the_other_code(entry):
    file, index, expected = THEIRS[entry.their_call]
    case = golden_cases.load(file)[index]
    np.testing.assert_allclose(first_loss(entry, case), expected(case), rtol=1e-4)
