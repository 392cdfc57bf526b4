"""Training schemes over public pieces: ensembles, chains, early-stopped teachers, warm-up."""

import keras
import models
import numpy as np
import pytest
import reference

import keras_ats
from keras_ats.callbacks import GradientReversalSchedule, KDWeightWarmup, TeacherCheckpoints
from keras_ats.losses import AsymmetricTemperatureKD, CurriculumTemperatureKD, TemperatureKD
from keras_ats.teachers import Ensemble


def test_ensemble_mixes_probabilities(rng):
    x, _ = models.features(rng)
    # One member ends in softmax, the other in logits: both are read at their logits.
    members = [models.sequential(4, softmax=True), models.sequential(6)]
    ensemble = Ensemble(members, weights=[3, 1])
    logits = models.outputs(ensemble, x)
    mixture = 0.75 * models.outputs(members[0], x) + 0.25 * reference.softmax(
        models.outputs(members[1], x)
    )
    np.testing.assert_allclose(reference.softmax(logits), mixture, rtol=1e-5)
    np.testing.assert_allclose(logits.mean(axis=-1), 0, atol=1e-6)


def test_ensemble_of_logits_is_their_mean(rng):
    x, _ = models.features(rng)
    members = [models.sequential(4), models.sequential(6)]
    logits = models.outputs(Ensemble(members, combine="logits"), x)
    expected = (models.outputs(members[0], x) + models.outputs(members[1], x)) / 2
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_a_member_without_weight_is_silent(rng):
    x, _ = models.features(rng)
    members = [models.sequential(4), models.sequential(6)]
    logits = models.outputs(Ensemble(members, weights=[1, 0]), x)
    np.testing.assert_allclose(
        reference.softmax(logits), reference.softmax(models.outputs(members[0], x)), rtol=1e-5
    )


def test_ensemble_teaches_and_is_saved_with_the_distiller(rng, tmp_path):
    x, y = models.features(rng)
    members = [models.stochastic(softmax=True), models.sequential(6)]
    before = [models.numpy_weights(member) for member in members]
    distiller = keras_ats.Distiller(Ensemble(members, [2, 1]), models.sequential(3))
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2))
    distiller.fit(x, y, verbose=0)
    for member, weights in zip(members, before, strict=True):
        for now, then in zip(models.numpy_weights(member), weights, strict=True):
            np.testing.assert_array_equal(now, then)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    np.testing.assert_allclose(
        models.outputs(loaded.teacher, x), models.outputs(distiller.teacher, x), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teachers": []}, "at least one teacher"),
        ({"weights": [1]}, "one number per teacher"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [2, -1]}, "at least 0"),
        ({"combine": "votes"}, "'votes'"),
    ],
)
def test_ensemble_errors(arguments, message):
    arguments = {"teachers": [models.linear(), models.linear()]} | arguments
    with pytest.raises(ValueError, match=message):
        Ensemble(**arguments)


def test_a_chain_trains_each_model_on_the_one_before(rng):
    x, y = models.features(rng)
    chain = [models.sequential(width) for width in (8, 5, 3)]
    links = []

    def train(distiller):
        links.append((distiller.teacher, distiller.student))
        distiller.compile("sgd", kd_loss=TemperatureKD(2.0))
        distiller.fit(x, y, verbose=0)

    before = [models.numpy_weights(model) for model in chain]
    last = keras_ats.distill_chain(chain, train)
    assert last is chain[-1]
    assert links == [(chain[0], chain[1]), (chain[1], chain[2])]
    changed = [
        not np.array_equal(model.get_weights()[0], weights[0])
        for model, weights in zip(chain, before, strict=True)
    ]
    assert changed == [False, True, True]
    with pytest.raises(ValueError, match=r"Received: 1 model"):
        keras_ats.distill_chain(chain[:1], train)


def test_self_distillation_goes_through_fresh_copies(rng):
    model, seen = models.sequential(4), []
    last = keras_ats.self_distill(model, 2, lambda d: seen.append((d.teacher, d.student)))
    assert seen[0][0] is model
    assert seen[0][1] is seen[1][0]
    assert seen[1][1] is last
    assert not np.array_equal(last.get_weights()[0], model.get_weights()[0])
    assert last.get_config()["layers"][1]["config"]["units"] == 4
    with pytest.raises(ValueError, match="at least 1"):
        keras_ats.self_distill(model, 0, print)


def test_teacher_checkpoints_keep_every_age(rng, tmp_path):
    x, y = models.features(rng)
    teacher = models.sequential(4)
    teacher.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    checkpoints = TeacherCheckpoints(tmp_path / "teachers", every=2)
    ages = {}
    remember = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ages.update({epoch + 1: teacher.get_weights()})
    )
    teacher.fit(x, y, epochs=5, verbose=0, callbacks=[checkpoints, remember])
    assert checkpoints.epochs == [2, 4]
    np.testing.assert_array_equal(checkpoints.load(2).get_weights()[0], ages[2][0])
    picked = checkpoints.pick(
        lambda model: float(np.array_equal(model.get_weights()[0], ages[4][0]))
    )
    np.testing.assert_array_equal(picked.get_weights()[0], ages[4][0])
    with pytest.raises(FileNotFoundError, match=r"Epochs there: \[2, 4\]"):
        checkpoints.load(3)
    with pytest.raises(FileNotFoundError, match="No teachers"):
        TeacherCheckpoints(tmp_path / "empty").pick(len)


@pytest.mark.parametrize("every", [1.5, "3", True, None])
def test_teacher_checkpoints_need_whole_epochs(every, tmp_path):
    with pytest.raises(TypeError, match="`every` must be an integer of at least 1"):
        TeacherCheckpoints(tmp_path, every)


def test_a_teacher_that_cannot_be_compared(tmp_path):
    checkpoints = TeacherCheckpoints(tmp_path)
    checkpoints.set_model(models.sequential(4))
    for epoch in range(2):
        checkpoints.on_epoch_end(epoch)
    scores = iter([1.0, float("nan")])
    with pytest.raises(ValueError, match=r"teacher of epoch 2 cannot be compared.*score of nan"):
        checkpoints.pick(lambda model: next(scores))
    with pytest.raises(TypeError, match=r"`score\(teacher\)` must be a number"):
        checkpoints.pick(lambda model: None)
    assert checkpoints.pick(lambda model: keras.ops.ones(())) is not None
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        TeacherCheckpoints(tmp_path, 0)
    with pytest.raises(TypeError, match="`directory` must be a path"):
        TeacherCheckpoints(None)


def test_weight_warmup_follows_the_epoch(rng):
    x, y = models.features(rng)
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    distiller.compile("sgd", kd_loss=TemperatureKD(), kd_weight=0.8, student_weight=1.0)
    history = distiller.fit(
        x, y, batch_size=16, epochs=3, verbose=0, callbacks=[KDWeightWarmup(0.8, epochs=2)]
    ).history
    expected = [
        student + weight * kd
        for student, kd, weight in zip(
            history["student_loss"], history["kd_loss"], [0.4, 0.8, 0.8], strict=True
        )
    ]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)


def test_gradient_reversal_schedule_finds_the_learned_temperature(rng):
    x, y = models.features(rng)
    loss = CurriculumTemperatureKD()
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    distiller.compile("sgd", kd_loss=loss)
    distiller.fit(x, y, epochs=2, verbose=0, callbacks=[GradientReversalSchedule(2)])
    assert float(keras.ops.convert_to_numpy(loss.gradient_factor)) == -1.0
    distiller.compile("sgd", kd_loss=TemperatureKD())
    with pytest.raises(ValueError, match="no learned temperature"):
        distiller.fit(x, y, verbose=0, callbacks=[GradientReversalSchedule(2)])
