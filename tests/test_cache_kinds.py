"""Teachers and data of every kind: what rides along is what was said of this very sample."""

import random

import caches
import keras
import numpy as np
import pytest
from backends import on_one_backend

import keras_ats
from keras_ats.losses import TemperatureKD
from keras_ats.teachers import CachedTeacher, LiveTeacher

SIZE = 12
tf = pytest.importorskip("tensorflow")
torch = pytest.importorskip("torch")


class Items:
    """A map-style dataset that augments with all of the process's generators."""

    def __init__(self, count=10, generator=None):
        self.x = np.random.default_rng(0).normal(size=(count, SIZE)).astype("float32")
        self.generator = generator

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        noise = random.random() + np.random.random() + torch.rand(()).item()  # noqa: NPY002
        if self.generator is not None:
            noise += self.generator.random()
        return torch.tensor(self.x[index] + np.float32(noise)), index % 4


class Batches(keras.utils.PyDataset):
    """The same in batches of 4; it shuffles when an epoch ends, unless it is not let."""

    def __init__(self, count=10, **options):
        super().__init__(**options)
        self.items = Items(count)
        self.order = np.arange(count)

    def __len__(self):
        return -(-len(self.items) // 4)

    def __getitem__(self, index):
        noise = np.random.random((SIZE,)).astype("float32")  # noqa: NPY002
        chosen = self.order[4 * index : 4 * index + 4]
        return self.items.x[chosen] + noise, chosen % 4, np.ones(len(chosen), "float32")

    def on_epoch_end(self):
        np.random.shuffle(self.order)  # noqa: NPY002


def made(data, path, teacher=None, **options):
    options = {"name": "f", "batch_size": 4, "dtype": "float32", "verbose": 0, **options}
    return keras_ats.cache_teacher(teacher or caches.Function(SIZE), data, path, **options)


def logits(batch):
    rows = batch["teacher_rows"]["logits"]
    return np.asarray(rows["maximum"])[..., None] + np.asarray(rows["differences"])


def assert_said(batch, teacher):
    """What rides along with a batch is what the teacher says of these inputs."""
    np.testing.assert_allclose(logits(batch), teacher(batch["inputs"]), atol=1e-5)


# --- Data.


@on_one_backend("NumPy")
def test_arrays_with_ids_of_their_own(tmp_path, rng):
    x, ids = rng.normal(size=(10, SIZE)).astype("float32"), rng.permutation(50)[:10]
    cache = made((x, np.arange(10)), tmp_path, ids=ids)
    order = rng.permutation(10)[:6]
    batch, y = cache.attach((x[order], np.arange(10)[order]), ids=ids[order])
    assert_said(batch, caches.Function(SIZE))
    np.testing.assert_array_equal(y, order)
    assert set(cache.attach(x, ids=ids)) == {"inputs", "teacher_rows"}
    with pytest.raises(ValueError, match="`views` must be 1 where nothing is augmented"):
        made(x, tmp_path / "b", views=2)
    with pytest.raises(ValueError, match=r"`augment` is for keras_ats\.data\.Samples alone"):
        made(x, tmp_path / "b", augment=True)
    with pytest.raises(ValueError, match=r"`batches` is for keras_ats\.data\.Samples"):
        cache.batches(4)


@on_one_backend("tf.data")
def test_tf_data_with_ids_in_any_order_and_without_in_one(tmp_path, rng):
    x = rng.normal(size=(10, SIZE)).astype("float32")
    y, ids = np.arange(10) % 4, rng.permutation(50)[:10]
    data = tf.data.Dataset.from_tensor_slices((x, y, ids)).batch(4)

    def noise():
        return np.float32(rng.random())

    cache = made(data, tmp_path / "ids")
    shuffled = tf.data.Dataset.from_tensor_slices((x, y, ids)).shuffle(10, seed=1).batch(3)
    for batch, _ in cache.attach(shuffled).as_numpy_iterator():
        assert_said(batch, caches.Function(SIZE))
    plain = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    cache = made(plain, tmp_path / "places")
    for batch, _ in cache.attach(plain).as_numpy_iterator():
        assert_said(batch, caches.Function(SIZE))
    changed = tf.data.Dataset.from_tensor_slices((x + 1, y, ids)).batch(4)
    with pytest.raises(ValueError, match="are not those that the teacher was shown"):
        CachedTeacher(tmp_path / "ids").attach(changed)
    with pytest.raises(ValueError, match=r"other samples each time it is read.*shuffle"):
        made(plain.unbatch().shuffle(10).batch(4), tmp_path / "random")
    noisy = data.map(lambda x, y, ids: (x + tf.numpy_function(noise, [], tf.float32), y, ids))
    with pytest.raises(ValueError, match=r"other samples each time.*keras_ats\.data\.Samples"):
        made(noisy, tmp_path / "random")
    with pytest.raises(ValueError, match="never ends"):
        made(plain.repeat(), tmp_path / "endless")
    assert not (tmp_path / "random").exists()


@on_one_backend("torch's DataLoader")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_torch_dataset_augments_the_same_in_any_process(tmp_path, workers):
    data = Items()
    cache = made(data, tmp_path, views=3)
    assert len(cache) == 10
    attached = cache.attach(data)
    assert len(attached) == 30
    loader = torch.utils.data.DataLoader(
        attached, batch_size=4, sampler=attached.sampler(seed=1), num_workers=workers
    )
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    pictures = []
    for _ in range(4):
        seen, labels = {}, []
        for batch, y in loader:
            x = batch["inputs"].numpy()
            assert_said({**batch, "inputs": x}, caches.Function(SIZE))
            places = [int((data.x - row).var(axis=1).argmin()) for row in x]
            np.testing.assert_array_equal(y, np.array(places) % 4)
            seen.update(zip(places, x, strict=True))
            labels += places
        assert sorted(labels) == list(range(10))
        pictures.append(seen)
    assert all((pictures[0][i] == pictures[3][i]).all() for i in range(10))
    assert any((pictures[0][i] != pictures[1][i]).any() for i in range(10))
    if not workers:
        attached[3]
        torch.manual_seed(5)
        attached[3]  # The process's own generators are not disturbed.
        np.testing.assert_array_equal(torch.rand(3), drawn)


@on_one_backend("random generators")
def test_a_dataset_that_cannot_be_seeded_is_refused(tmp_path):
    data = Items(generator=random.Random(0))
    with pytest.raises(ValueError, match=r"another sample each time, whatever is seeded"):
        made(data, tmp_path)
    data = Items()
    cache = made(data, tmp_path, views=1)
    data.x = data.x + 1
    with pytest.raises(ValueError, match="not what the teacher was shown"):
        cache.attach(data)[0]
    with pytest.raises(TypeError, match="must be the Dataset, not its DataLoader"):
        made(torch.utils.data.DataLoader(data), tmp_path / "loader")
    with pytest.raises(TypeError, match="has no ids and no places"):
        made((one for one in [1]), tmp_path / "generator")


@on_one_backend("Keras's enqueuer")
@pytest.mark.parametrize("options", [{}, {"workers": 2, "use_multiprocessing": True}])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_pydataset_with_workers(tmp_path, options):
    cache = made(Batches(), tmp_path, views=2)
    data = Batches(**options)
    attached = cache.attach(data, shuffle=True, seed=2)
    student = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(4)])
    distiller = keras_ats.Distiller(cache, student)
    distiller.compile("sgd", kd_loss=TemperatureKD(4), student_weight=0.0, kd_weight=1.0)
    seen = [attached[index] for index in range(9)]
    for batch, y, weights in seen:
        assert_said(batch, caches.Function(SIZE))
        assert len(y) == len(weights)
    # Three batches to an epoch; the last one of ten samples has two.
    assert sorted(len(y) for _, y, _ in seen[:3]) == [2, 4, 4]
    history = distiller.fit(attached, steps_per_epoch=len(data), epochs=3, verbose=0).history
    assert len(history["loss"]) == 3
    assert np.isfinite(history["loss"]).all()


# --- Teachers.


@on_one_backend("no backend runs the teacher")
def test_any_function_teaches(tmp_path, rng):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = rng.normal(size=(40, SIZE)), rng.integers(0, 3, 40)
    fitted = linear_model.LogisticRegression().fit(x, y)
    cache = made((x, y), tmp_path / "sklearn", fitted.decision_function, name="regression")
    np.testing.assert_allclose(cache.logits(), fitted.decision_function(x), atol=1e-5)
    module = torch.nn.Linear(SIZE, 3)

    def run(batch):
        with torch.no_grad():
            return module(torch.tensor(batch, dtype=torch.float32))

    cache = made((x, y), tmp_path / "torch", run, name="linear")
    np.testing.assert_allclose(cache.logits(), run(x).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="`name` must tell this teacher from others"):
        made(x, tmp_path / "x", run, name=None)
    with pytest.raises(ValueError, match="must be logits, not probabilities"):
        made(x, tmp_path / "x", fitted.predict_proba)
    with pytest.raises(ValueError, match="of one sigmoid unit"):
        made(x, tmp_path / "x", lambda batch: batch[:, 0])
    with pytest.raises(ValueError, match=r"must be finite.* in (\d+) of \1 rows"):
        made(x, tmp_path / "x", lambda batch: batch * np.nan)
    with pytest.raises(ValueError, match="one row for each sample"):
        made(x, tmp_path / "x", lambda batch: batch[:1])
    with pytest.raises(ValueError, match=r"`from_logits` must be True.*is a function"):
        made(x, tmp_path / "x", run, from_logits=False)
    assert not (tmp_path / "x").exists()


@on_one_backend("rows of one number are rows")
@pytest.mark.parametrize("kind", ["network", "function"])
def test_one_sigmoid_unit(kind, tmp_path, rng):
    def network(ending):
        return keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(1, ending)])

    x, y = rng.normal(size=(8, SIZE)).astype("float32"), np.arange(8) % 2
    teacher, student = network("sigmoid"), network("sigmoid")
    logits = keras_ats.views.at_logits(teacher)
    # As the log-odds of boosted trees, with an axis for the one unit.
    taught = teacher if kind == "network" else logits.predict_on_batch
    cache = made((x, y), tmp_path / kind, taught, dtype="float16")
    np.testing.assert_allclose(cache.logits(), logits.predict_on_batch(x), rtol=1e-6)
    values = []
    for one, data in ((teacher, (x, y)), (cache, cache.attach((x, y)))):
        distiller = keras_ats.Distiller(one, keras.models.clone_model(student))
        distiller.student.set_weights(student.get_weights())
        distiller.compile("sgd", kd_loss=keras_ats.losses.BernoulliKD(4, 2))
        values.append(distiller.fit(*data, batch_size=8, verbose=0).history["kd_loss"][0])
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_an_ensemble_and_inputs_of_several_parts(tmp_path, rng):
    def network():
        parts = {name: keras.Input((4,), name=name) for name in ("a", "b")}
        joined = keras.layers.Concatenate()(list(parts.values()))
        return keras.Model(parts, keras.layers.Dense(3, "softmax")(joined))

    ensemble = keras_ats.teachers.Ensemble([network(), network()])
    x = {name: rng.normal(size=(10, 4)).astype("float32") for name in ("a", "b")}
    cache = keras_ats.cache_teacher(
        ensemble, (x, np.arange(10) % 3), tmp_path, batch_size=4, dtype="float32", verbose=0
    )
    said = LiveTeacher(ensemble)(x).logits
    np.testing.assert_allclose(cache.logits(), keras.ops.convert_to_numpy(said), atol=1e-5)
    distiller = keras_ats.Distiller(cache, network())
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    assert distiller.fit(*cache.attach((x, np.arange(10) % 3)), verbose=0).history["loss"][0] > 0


def test_outputs_of_several_names_and_pixels(tmp_path, rng):
    inputs = keras.Input((4, 4, 1))
    outputs = {
        "pixels": keras.layers.Conv2D(3, 1, name="pixels")(inputs),
        "image": keras.layers.Dense(5, name="image")(keras.layers.Flatten()(inputs)),
    }
    teacher = keras.Model(inputs, outputs)
    student = keras.models.clone_model(teacher)
    x = rng.normal(size=(6, 4, 4, 1)).astype("float32")
    cache = keras_ats.cache_teacher(teacher, x, tmp_path, batch_size=4, dtype="float32", verbose=0)
    expected = LiveTeacher(teacher)(x).logits
    found = cache.logits()
    for name in outputs:
        np.testing.assert_allclose(
            found[name], keras.ops.convert_to_numpy(expected[name]), atol=1e-5
        )
    assert cache.shapes.logits == {"pixels": (None, 4, 4, 3), "image": (None, 5)}
    distiller = keras_ats.Distiller(cache, student)
    distiller.compile(
        "sgd", loss=None, kd_loss={"pixels": TemperatureKD(2), "image": TemperatureKD(4)}
    )
    history = distiller.fit(cache.attach(x), verbose=0).history
    assert history["pixels_kd_loss"][0] > 0
