"""What a cache holds, what it refuses, and how it is taken up again; no backend is involved."""

import dataclasses
import errno
import json
import shutil

import caches
import numpy as np
import pytest
from backends import on_one_backend
from models import log_softmax

import keras_ats
from keras_ats import files
from keras_ats.ops.tail import TAIL_NODES
from keras_ats.teachers import CachedTeacher, estimate_cache
from keras_ats.teachers.cache import manifest
from keras_ats.teachers.cache.rows import RowFormat
from keras_ats.teachers.cache.shards import Shards
from keras_ats.version import __version__

pytestmark = on_one_backend("files and NumPy")

SIZE = 12


def arrays(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, SIZE)).astype("float32"), rng.integers(0, 4, count)


def function(seed=0, classes=4):
    return caches.Function(SIZE, classes, seed)


def make(path, data=None, teacher=None, **options):
    """A cache of 40 samples in three shards."""
    options = {"name": "f", "batch_size": 16, "verbose": 0, **options}
    return keras_ats.cache_teacher(teacher or function(), data or arrays(), path, **options)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr("keras_ats.teachers.cache.plan.SHARD_ROWS", 16)


# --- Rows.


def kl(p, q):
    return (np.exp(p) * (p - q)).sum(axis=-1)


@pytest.mark.parametrize("classes", [10, 100, 1000])
@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
def test_float16_rows_are_the_teacher_at_any_temperature(rng, classes, scale):
    logits = caches.random_logits(rng, (50, classes), scale)
    form = RowFormat(classes)
    kept = form.logits(form.encode(logits))
    for temperature in (0.1, 0.5, 1, 2, 4, 10, 50):
        difference = kl(log_softmax(logits, temperature), log_softmax(kept, temperature))
        assert difference.max() <= 1e-6
    # The level of the row, which ATS depends on, is exact.
    np.testing.assert_array_equal(kept.max(axis=-1), logits.max(axis=-1))
    assert form.record.itemsize == 4 + 2 * classes


def test_float32_rows_are_the_teacher(rng):
    logits = caches.random_logits(rng, (6, 5, 7))
    form = RowFormat(7, (5,), "float32")
    np.testing.assert_allclose(form.logits(form.encode(logits)), logits, atol=1e-6)


def test_classes_that_a_teacher_does_not_have_stay_absent():
    logits = np.array([[1.0, -np.inf, -1e6, 3.0]], "float32")
    kept = RowFormat(4).logits(RowFormat(4).encode(logits))
    assert np.isneginf(kept[0, 1])
    assert np.isfinite(kept[0, 2])


def test_the_largest_logits_the_labels_and_the_rest(rng):
    logits = caches.random_logits(rng, (30, 300))
    labels = rng.integers(0, 300, 30)
    form = RowFormat(300, top_k=8, labels=1)
    rows = form.encode(logits, labels)
    assert rows["ids"].dtype == np.uint16
    assert form.record.itemsize == 4 + 9 * 4 + 8 * 4 + 4 + 4
    assert RowFormat(70_000, top_k=8).record["ids"].base == np.uint32
    largest = np.argsort(-logits, axis=-1)[:, :8]
    for row, ids, label in zip(range(30), rows["ids"], labels, strict=True):
        assert set(largest[row]) <= set(ids)
        assert label in ids
        rest = np.delete(logits[row].astype("float64"), ids) - logits[row].max()
        np.testing.assert_allclose(
            rows["tail"][row],
            [np.log(np.exp(inverse * rest).sum()) for inverse in TAIL_NODES],
            atol=1e-5,
        )
        np.testing.assert_allclose(rows["mean"][row], rest.mean(), rtol=1e-5)
        assert rows["count"][row] == 291
        assert (np.diff(rows["differences"][row]) <= 0).all()


def test_both_labels_of_a_mixed_sample_are_kept(rng):
    logits = caches.random_logits(rng, (20, 50))
    labels = np.zeros((20, 50), "float32")
    first, second = rng.integers(0, 25, 20), rng.integers(25, 50, 20)
    labels[np.arange(20), first], labels[np.arange(20), second] = 0.7, 0.3
    ids = RowFormat(50, top_k=3, labels=2).encode(logits, labels)["ids"]
    assert all({a, b} <= set(row) for a, b, row in zip(first, second, ids, strict=True))
    assert ids.shape == (20, 5)


# --- What does not match is refused.


def permuted(x, y):
    order = np.random.default_rng(1).permutation(len(x))
    return x[order], y


def changed(x, y):
    x = x.copy()
    x[7, 3] += 1e-3
    return x, y


def edit_manifest(path, change):
    """As somebody would by hand."""
    file = path / manifest.FILE
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


def truncated(path):
    shard = path / "view_0000" / "shard_000001.rows"
    shard.write_bytes(shard.read_bytes()[:-5])


def flipped(path):
    shard = path / "view_0000" / "shard_000001.rows"
    content = bytearray(shard.read_bytes())
    content[200] ^= 1
    shard.write_bytes(content)


def exchanged(path):
    first, second = (path / "view_0000" / f"shard_00000{i}.rows" for i in (0, 1))
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)


def of_another(path):
    make(path.parent / "another", arrays(seed=5))
    shutil.copy(
        path.parent / "another" / "view_0000" / "shard_000000.rows",
        path / "view_0000" / "shard_000000.rows",
    )


def not_a_shard(path):
    shard = path / "view_0000" / "shard_000000.rows"
    shard.write_bytes(bytes(shard.stat().st_size))


FILES = {
    "file truncated": (truncated, r"shard_000001\.rows has \d+ bytes instead of \d+"),
    "a bit flipped": (flipped, r"shard_000001\.rows holds other bytes than were written"),
    "files exchanged": (exchanged, r"shard_000000\.rows is shard 1 of view 0"),
    "file of another cache": (of_another, r"shard_000000\.rows belongs to another cache"),
    "no shard": (not_a_shard, r"shard_000000\.rows is no file of a cache"),
    "shard missing": (
        lambda path: (path / "view_0000" / "shard_000002.rows").unlink(),
        r"not whole: 1 of 3 files are missing.*shard_000002\.rows.*cache_teacher again",
    ),
    "manifest edited": (
        lambda path: edit_manifest(path, lambda found: found["data"].update(count=39)),
        r"manifest\.json was edited after it was written",
    ),
    "manifest cut": (
        lambda path: (path / manifest.FILE).write_text("{"),
        r"manifest\.json is damaged",
    ),
    "ids changed": (
        lambda path: np.save(path / "ids.npy", np.arange(40)[::-1]),
        r"ids\.npy was changed after it was written",
    ),
    "no manifest": (lambda path: (path / manifest.FILE).unlink(), "there is no manifest"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_as_written_are_refused(tmp_path, case):
    spoil, message = FILES[case]
    path = tmp_path / "cache"
    make(path)
    spoil(path)
    kind = FileNotFoundError if case == "no manifest" else ValueError
    with pytest.raises(kind, match=message):
        CachedTeacher(path)


DATA = {
    "ids permuted": (lambda x, y: permuted(x, y), r"samples themselves.*data\.fingerprints"),
    "an entry changed": (lambda x, y: changed(x, y), r"samples themselves"),
    "other normalisation": (lambda x, y: (x * 1.01, y), r"samples themselves"),
    "fewer samples": (lambda x, y: (x[:30], y[:30]), r"data\.count.*40 in the cache, 30 given"),
}


@pytest.mark.parametrize("case", DATA)
def test_other_data_is_refused_with_what_differs(tmp_path, case):
    change, message = DATA[case]
    cache = make(tmp_path)
    given = change(*arrays())
    with pytest.raises(ValueError, match=message):
        CachedTeacher(tmp_path, given)
    with pytest.raises(ValueError, match=message):
        make(tmp_path, given)
    if case != "fewer samples":  # They may be attached: each is what it was.
        with pytest.raises(ValueError, match=r"\d+ of 40 samples are not those"):
            cache.attach(given)


MADE = {
    "other name": ({"name": "g"}, r"teacher's name .*f in the cache, g given"),
    "other class count": ({"teacher": function(classes=5)}, r"rows\.logits\.classes.*4 in .*5 giv"),
    "other classes": ({"classes": 3}, r"teacher\.classes.*None in the cache, 3 given"),
    "other dtype": ({"dtype": "float32"}, r"rows\.logits\.dtype"),
    "other top_k": ({"top_k": 2}, r"rows\.logits\.top_k"),
    "other ids": ({"ids": np.arange(40) + 1}, r"the ids of the samples"),
    "other weights": ({"teacher": function(seed=1)}, "says other logits than when"),
}


@pytest.mark.parametrize("case", MADE)
def test_another_cache_at_the_same_path_is_refused(tmp_path, case):
    options, message = MADE[case]
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **options)


def test_other_views_and_weights_of_samples_are_refused(tmp_path):
    samples = caches.samples(16)
    teacher = caches.network()
    keras_ats.cache_teacher(teacher, samples, tmp_path, views=1, batch_size=16, verbose=0)
    with pytest.raises(ValueError, match=r"seed of views .*0 in the cache, 1 given"):
        keras_ats.cache_teacher(teacher, samples, tmp_path, views=1, seed=1, verbose=0)
    with pytest.raises(ValueError, match=r"augmentation\.padding`: 1 in the cache, 2 given"):
        keras_ats.cache_teacher(teacher, samples, tmp_path, views=1, padding=2, verbose=0)
    with pytest.raises(ValueError, match=r"augmentation\.mixup"):
        keras_ats.cache_teacher(teacher, samples, tmp_path, views=1, mixup=0.2, verbose=0)
    other = caches.network()
    with pytest.raises(ValueError, match=r"the teacher's weights .*\.\.\. in the cache, "):
        keras_ats.cache_teacher(other, samples, tmp_path, views=1, verbose=0)
    cache = CachedTeacher(tmp_path, samples)
    with pytest.raises(ValueError, match="the teacher's weights"):
        cache.verify(other)
    shifted = keras_ats.data.Samples.from_arrays(
        samples.features, samples.labels, ids=samples.ids, statistics=((0.0,) * 3, (1.0,) * 3)
    )
    with pytest.raises(ValueError, match=r"the mean that features are normalised by"):
        CachedTeacher(tmp_path, shifted)
    with pytest.raises(ValueError, match=r"the mean that features are normalised by"):
        cache.attach(shifted)
    part = samples.subset(8)
    assert len(cache.attach(part)) == 8
    strange = dataclasses.replace(samples, ids=samples.ids + 1000)
    with pytest.raises(ValueError, match="holds nothing of some samples"):
        cache.attach(strange)
    with pytest.raises(TypeError, match="The cache was made of samples"):
        cache.attach(arrays())


# --- Taken up again.


def test_a_stopped_writer_is_taken_up_and_the_files_are_the_same(tmp_path, monkeypatch):
    make(tmp_path / "straight")
    write, left = Shards.write, [1]

    def stops(self, *arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, *arguments)

    monkeypatch.setattr(Shards, "write", stops)
    for there in (1, 2):
        left[0] = 1
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "stopped")
        assert len(list((tmp_path / "stopped").glob("*/*.rows"))) == there
        with pytest.raises(ValueError, match="not whole"):
            CachedTeacher(tmp_path / "stopped")
    monkeypatch.setattr(Shards, "write", write)
    teacher = function()
    make(tmp_path / "stopped", teacher=teacher)
    assert teacher.calls <= 5  # One to see the logits, two to compare, the last shard.
    assert_same_files(tmp_path / "straight", tmp_path / "stopped")


def assert_same_files(one, other):
    found = [
        {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*")}
        for path in (one, other)
    ]
    assert found[0] == found[1]


def test_several_workers_fill_one_cache(tmp_path):
    make(tmp_path / "alone")
    first = make(tmp_path / "shared", worker=(1, 2))
    assert not first.is_whole
    with pytest.raises(ValueError, match="not whole: 2 of 3 files"):
        first.attach(arrays())
    second = make(tmp_path / "shared", worker=(0, 2))
    assert first.is_whole
    assert second.is_whole
    assert_same_files(tmp_path / "alone", tmp_path / "shared")


def test_views_are_appended(tmp_path):
    samples, teacher = caches.samples(16), caches.network()
    options = {"batch_size": 16, "verbose": 0}
    keras_ats.cache_teacher(teacher, samples, tmp_path / "a", views=1, **options)
    first = (tmp_path / "a" / "view_0000" / "shard_000000.rows").stat().st_mtime_ns
    cache = keras_ats.cache_teacher(teacher, samples, tmp_path / "a", views=3, **options)
    assert cache.views == 3
    assert (tmp_path / "a" / "view_0000" / "shard_000000.rows").stat().st_mtime_ns == first
    keras_ats.cache_teacher(teacher, samples, tmp_path / "b", views=3, **options)
    for view in range(3):
        name = f"view_{view:04d}/shard_000000.rows"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    fewer = CachedTeacher(tmp_path / "a", views=2)
    assert (fewer.views, cache.bytes) == (2, 3 * fewer.bytes // 2)
    with pytest.raises(ValueError, match=r"fewer views.*views=4.*at most 3"):
        CachedTeacher(tmp_path / "a", views=4)
    assert np.abs(cache.logits(0) - cache.logits(1)).max() > 0.01


def test_a_full_disk_is_said_and_leaves_what_was_whole(tmp_path, monkeypatch):
    put, left = files.put_in_place, [5]

    def full(unfinished, path):
        if path.suffix == ".rows" and (left.append(left.pop() - 1) or left[0] < 4):
            raise OSError(errno.ENOSPC, "No space left on device")
        put(unfinished, path)

    monkeypatch.setattr(files, "put_in_place", full)
    with pytest.raises(OSError, match=r"shard_000001\.rows could not be written: No space") as told:
        make(tmp_path)
    assert told.value.errno == errno.ENOSPC
    assert [file.name for file in tmp_path.glob("*/*")] == ["shard_000000.rows"]
    monkeypatch.setattr(files, "put_in_place", put)
    assert make(tmp_path).is_whole


def test_no_room_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"no room for the cache.*0\.00 GB free"):
        make(tmp_path)
    assert not list(tmp_path.glob("*/*.rows"))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"worker": 1}, TypeError, r"`worker` must be \(index, count\)"),
        ({"worker": (2, 2)}, ValueError, "index below the count"),
        ({"verbose": "a"}, ValueError, "`verbose` must be one of"),
        ({"verbose": np.ones(2)}, ValueError, "`verbose` must be one of"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"teacher": 3}, TypeError, "`teacher` must be a keras.Model"),
        ({"name": ""}, ValueError, "`name` must be a name for the teacher"),
    ],
)
def test_arguments_that_cannot_be_meant(tmp_path, options, kind, message):
    with pytest.raises(kind, match=message):
        make(tmp_path / "cache", **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="`path` must be a path"):
        make(3)


def test_the_manifest_says_what_the_cache_is_of(tmp_path):
    cache = make(tmp_path)
    found = manifest.read(tmp_path)
    assert found["teacher"] == {
        "name": "f",
        "weights": None,
        "reads": {"logits": "logits"},
        "classes": None,
    }
    assert found["data"]["kind"] == "arrays"
    assert found["rows"]["logits"]["classes"] == 4
    assert found["made_with"]["keras_ats"] == __version__
    assert repr(cache) == f"CachedTeacher('{tmp_path}': 40 samples, 1 views, 0.0 MB)"
    assert cache.bytes == sum(file.stat().st_size for file in tmp_path.glob("*/*.rows"))
    assert not list(tmp_path.rglob("partial-*"))


def test_an_estimate_is_the_size_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = estimate_cache(function(), arrays(), name="f", batch_size=16)
    assert not list(tmp_path.iterdir())
    assert (found.rows, found.bytes) == (40, make(tmp_path / "cache").bytes)
    assert found.seconds > 0
    assert "40 rows" in str(found)


def test_several_teachers_in_one_folder(tmp_path):
    for seed in (2, 1):
        make(tmp_path / f"epoch_{seed}", teacher=function(seed), name=f"epoch {seed}")
    found = CachedTeacher.all_in(tmp_path, arrays())
    assert list(found) == ["epoch_1", "epoch_2"]
    assert np.abs(found["epoch_1"].logits() - found["epoch_2"].logits()).max() > 0.1


def test_logits_that_somebody_has(tmp_path, rng):
    logits = caches.random_logits(rng, (20, 4))
    ids = rng.permutation(100)[:20]
    for path in (None, tmp_path / "imported"):
        cache = CachedTeacher.from_arrays(logits, ids, path=path, dtype="float32")
        assert cache.views == 1
        np.testing.assert_allclose(cache.logits(), logits, atol=1e-6)
        x = rng.normal(size=(5, SIZE))
        batch, _ = cache.attach((x, np.arange(5)), ids=ids[3:8])
        said = batch["teacher_rows"]["logits"]
        np.testing.assert_allclose(
            said["maximum"][:, None] + said["differences"], logits[3:8], atol=1e-6
        )
    assert cache.path == tmp_path / "imported"
    with pytest.raises(ValueError, match=r"rows\.logits\.classes"):
        CachedTeacher.from_arrays(logits[:, :3], ids, path=tmp_path / "imported")
    with pytest.raises(ValueError, match="must be logits, not probabilities"):
        CachedTeacher.from_arrays(np.full((4, 2), 0.5))
    with pytest.raises(ValueError, match="`ids` must be 20 different integers"):
        CachedTeacher.from_arrays(logits, np.zeros(20, int))
