"""The pipeline: orders, augmentation and resumption against NumPy, and `fit` on every backend."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from devices import two_devices

from keras_ats.data import Samples
from keras_ats.data.batches.mixing import beta_quantiles
from keras_ats.data.spectrograms import LOG_FLOOR

ORDER, DOWN, RIGHT, FLIP, PARTNER, SHARE, MIXER, BOX_DOWN, BOX_RIGHT = range(9)


def make(count=23, shape=(8, 10, 3), **options):
    rng = np.random.default_rng(0)
    features = rng.integers(0, 256, (count, *shape), np.uint8)
    # Ids of a subset: neither dense nor in order.
    ids = rng.permutation(10 * count)[:count]
    return Samples.from_arrays(features, rng.integers(0, 4, count), ids=ids, **options)


def epoch(samples, number, batch_size=5, first_epoch=0, **options):
    """All batches of one epoch of an endless dataset, joined; each part an array."""
    dataset = samples.batches(
        batch_size, shuffle=True, with_ids=True, first_epoch=first_epoch, **options
    )
    steps = samples.steps(batch_size, options.get("drop_remainder", False))
    skipped = (number - first_epoch) * steps
    batches = list(itertools.islice(dataset.as_numpy_iterator(), skipped, skipped + steps))
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def mixed(state):
    """SplitMix64, as published, in Python's own integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def draw(seed, epoch, sample, purpose):
    state = 0
    for number in (seed, epoch, sample, purpose):
        state = mixed(state ^ number)
    return state


def below(limit, bits):
    return (bits >> 32) * limit >> 32


def normalised(samples, features):
    scale = 255 if samples.features.dtype == np.uint8 else 1
    return (features / scale - samples.mean) / samples.std


def test_one_pass_in_order_is_normalised():
    samples = make()
    dataset = samples.batches(5)
    assert int(dataset.cardinality()) == samples.steps(5) == 5
    batches = list(dataset.as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    features = np.concatenate([features for features, _ in batches])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, normalised(samples, samples.features), atol=1e-5)
    np.testing.assert_allclose(features.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=(0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), samples.labels)


def test_float_features_are_not_divided_by_255():
    samples = Samples.from_arrays(np.arange(12, dtype="float32").reshape(4, 3), [0, 1, 0, 1])
    ((features, _),) = samples.batches(4).as_numpy_iterator()
    np.testing.assert_allclose(features, normalised(samples, samples.features), atol=1e-6)


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own():
    samples = make()
    orders = [epoch(samples, number, seed=3)[2] for number in range(3)]
    for number, ids in enumerate(orders):
        assert sorted(ids) == sorted(samples.ids)
        keys = {sample: draw(3, number, int(sample), ORDER) for sample in samples.ids}
        assert ids.tolist() == sorted(keys, key=keys.get)
    assert len({tuple(ids) for ids in orders}) == 3
    assert epoch(samples, 0, seed=4)[2].tolist() != orders[0].tolist()


def test_features_labels_and_ids_stay_together():
    samples = make()
    features, labels, ids = epoch(samples, 1)
    places = [samples.ids.tolist().index(sample) for sample in ids]
    np.testing.assert_array_equal(labels, samples.labels[places])
    np.testing.assert_allclose(
        features, normalised(samples, samples.features[places]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("augment", [False, True])
def test_resumed_is_undisturbed_bit_for_bit(augment):
    samples = make()
    straight = epoch(samples, 3, augment=augment, seed=1)
    resumed = epoch(samples, 3, first_epoch=3, augment=augment, seed=1)
    for first, second in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(first, second)


def test_augmentation_is_numpys():
    samples = make(40)
    features, _, ids = epoch(samples, 2, augment=True, padding=3, seed=7)
    padded = np.pad(samples.features, [(0, 0), (3, 3), (3, 3), (0, 0)])
    windows = set()
    for got, sample in zip(features, map(int, ids), strict=True):
        down, right = (below(7, draw(7, 2, sample, purpose)) for purpose in (DOWN, RIGHT))
        flip = below(2, draw(7, 2, sample, FLIP))
        window = padded[samples.ids.tolist().index(sample), down : down + 8, right : right + 10]
        window = window[:, ::-1] if flip else window
        np.testing.assert_allclose(got, normalised(samples, window), rtol=1e-4, atol=1e-5)
        windows.add((down, right, flip))
    # Both ends of the range are drawn, and both sides of the mirror.
    for drawn, expected in zip(zip(*windows, strict=True), (7, 7, 2), strict=True):
        assert set(drawn) == set(range(expected))


def test_padding_is_an_eighth_unless_given():
    samples = make(shape=(32, 32, 1))
    for first, second in zip(
        epoch(samples, 0, augment=True), epoch(samples, 0, augment=True, padding=4), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_a_samples_view_depends_on_nothing_but_seed_epoch_and_id():
    samples = make()
    views = {}
    for part, batch_size in ((samples, 5), (samples, 23), (samples.subset(8), 3)):
        for features, _, sample in zip(*epoch(part, 1, batch_size, augment=True), strict=True):
            first = views.setdefault(int(sample), features)
            np.testing.assert_array_equal(first, features)
    # In order, too: to precompute what a teacher says of epoch 1.
    in_order = samples.batches(4, augment=True, first_epoch=1, with_ids=True)
    for features, _, sample in in_order.unbatch().as_numpy_iterator():
        np.testing.assert_array_equal(views[int(sample)], features)
    others = epoch(samples, 2, augment=True), epoch(samples, 1, augment=True, seed=1)
    for features, _, ids in others:
        different = [
            not np.array_equal(views[int(sample)], one)
            for one, sample in zip(features, ids, strict=True)
        ]
        assert any(different)


def test_parallelism_changes_nothing():
    samples = make()
    dataset = samples.batches(2, shuffle=True, augment=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    alone = dataset.with_options(options)
    for first, second in zip(dataset.take(30), alone.take(30), strict=True):
        np.testing.assert_array_equal(first[0], second[0])


def test_spectrograms_shift_in_time_only():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 32, 4, 1)).astype("float32")
    samples = Samples.from_arrays(features, np.zeros(30, int), kind="spectrograms")
    got, _, ids = epoch(samples, 0, augment=True)
    padded = np.pad(
        features, [(0, 0), (3, 3), (0, 0), (0, 0)], constant_values=np.float32(LOG_FLOOR)
    )
    starts = [below(7, draw(0, 0, sample, DOWN)) for sample in map(int, ids)]
    expected = [
        padded[sample, start : start + 32] for sample, start in zip(ids, starts, strict=True)
    ]
    np.testing.assert_allclose(got, normalised(samples, np.stack(expected)), rtol=1e-4, atol=1e-5)
    assert set(starts) == set(range(7))


def test_remainder_can_be_dropped():
    samples = make()
    _, labels, ids = epoch(samples, 1, drop_remainder=True)
    assert len(labels) == len(set(ids)) == 20
    dataset = samples.batches(5, shuffle=True, drop_remainder=True)
    assert dataset.element_spec[0].shape == (5, 8, 10, 3)
    assert int(samples.batches(5, drop_remainder=True).cardinality()) == 4
    assert int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY


def model():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((8, 10, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    network.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return network


def fit(network, samples, epochs, first_epoch=0):
    return network.fit(
        samples.batches(5, shuffle=True, augment=True, first_epoch=first_epoch),
        steps_per_epoch=samples.steps(5),
        validation_data=samples.batches(5),
        initial_epoch=first_epoch,
        epochs=epochs,
        verbose=0,
    ).history


def test_fit_resumed_is_fit_undisturbed(tmp_path):
    samples = make()
    straight = model()
    losses = fit(straight, samples, 4)["loss"]
    stopped = model()
    fit(stopped, samples, 2)
    stopped.save(tmp_path / "stopped.keras")
    resumed = keras.saving.load_model(tmp_path / "stopped.keras")
    assert fit(resumed, samples, 4, first_epoch=2)["loss"] == losses[2:]
    for first, second in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="no data-parallel fit on torch")
def test_fit_on_two_devices_is_fit_on_one():
    samples = make(20)
    single = model()
    expected = fit_evenly(single, samples)
    with two_devices():
        spread = model()
        found = fit_evenly(spread, samples)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for first, second in zip(single.get_weights(), spread.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


def fit_evenly(network, samples):
    dataset = samples.batches(4, shuffle=True, augment=True)
    history = network.fit(dataset, steps_per_epoch=samples.steps(4), epochs=2, verbose=0)
    return history.history["loss"]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="no backend is involved")
@pytest.mark.parametrize(
    "options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}]
)
def test_mixing_is_numpys(options):
    samples = make(20)
    features, labels, ids = epoch(samples, 2, augment=False, seed=7, **options)
    in_order = np.sort(samples.ids)
    place = {sample: index for index, sample in enumerate(samples.ids.tolist())}
    whole, classes = normalised(samples, samples.features), np.eye(4)
    shares = []
    for got, row, sample in zip(features, labels, map(int, ids), strict=True):
        partner = int(in_order[below(20, draw(7, 2, sample, PARTNER))])
        own, other = place[sample], place[partner]
        quantile = below(65536, draw(7, 2, sample, SHARE))
        kept = np.full((8, 10, 1), beta_quantiles(options.get("mixup", 1.0))[quantile])
        is_mixed = "mixup" in options and (
            len(options) == 1 or below(2, draw(7, 2, sample, MIXER)) == 0
        )
        if not is_mixed:
            kept = 1.0 - box(sample, np.sqrt(1 - beta_quantiles(1.0)[quantile]))
        share = kept.mean()
        shares.append(share)
        expected = kept * whole[own] + (1 - kept) * whole[other]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        expected = (
            share * classes[samples.labels[own]] + (1 - share) * classes[samples.labels[other]]
        )
        np.testing.assert_allclose(row, expected, atol=1e-6)
    assert np.ptp(shares) > 0.3


def box(sample, ratio):
    """Where a partner's box is, `(8, 10, 1)`."""
    inside = np.zeros((8, 10, 1))
    half = [int(length * ratio) // 2 for length in (8, 10)]
    down, right = below(8, draw(7, 2, sample, BOX_DOWN)), below(10, draw(7, 2, sample, BOX_RIGHT))
    inside[max(down - half[0], 0) : down + half[0], max(right - half[1], 0) : right + half[1]] = 1.0
    return inside


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="no backend is involved")
@pytest.mark.parametrize("concentration", [0.1, 0.4, 1.0, 3.0])
def test_shares_are_those_of_the_beta_distribution(concentration):
    found = beta_quantiles(concentration)
    assert (np.diff(found) >= 0).all()
    drawn = np.sort(np.random.default_rng(0).beta(concentration, concentration, 200_000))
    at = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(np.quantile(found, at), np.quantile(drawn, at), atol=0.01)


def test_mixing_that_cannot_be_meant_is_refused():
    samples = Samples.from_arrays(np.zeros((4, 3), "float32"), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="`cutmix` needs features of shape"):
        samples.batches(2, cutmix=1.0)
    with pytest.raises(ValueError, match="`mixup` must be a finite number of at least 0"):
        samples.batches(2, mixup=-1)
    with pytest.raises(ValueError, match="`views` must be at least 1"):
        samples.batches(2, views=0)
