"""Files that are damaged, or made to do harm: a clear error or a safe value, and nothing is run."""

import io
import json
import os
import random
import shutil
import zipfile

import h5py
import keras
import models
import numpy as np
import pytest
from backends import on_one_backend

import keras_ats
from keras_ats import Distiller, files
from keras_ats.callbacks import Backup
from keras_ats.losses import AsymmetricTemperatureKD

pytestmark = [
    on_one_backend("files are read before anything is computed"),
    pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`"),
    pytest.mark.filterwarnings("ignore:Skipping invalid path"),
]
CANARY = "HOSTILE_FILE_CANARY"
# What we, Keras and HDF5 raise; not MemoryError, SystemError, AssertionError.
CLEAR = (ValueError, TypeError, KeyError, OSError, AttributeError, RuntimeError, zipfile.BadZipFile)


def harm(*_):
    """What a hostile file would like to have called."""
    os.environ[CANARY] = "sang"


@pytest.fixture(autouse=True)
def canary(monkeypatch):
    """Fails a test in which `harm` was called."""
    monkeypatch.delenv(CANARY, raising=False)
    yield
    assert CANARY not in os.environ, "a file has had code run"


def compiled():
    distiller = Distiller(models.linear(softmax=True), models.linear(softmax=True))
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2))
    distiller.optimizer.build(distiller.trainable_variables)
    return distiller


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One file of each kind, as it should be."""
    folder = tmp_path_factory.mktemp("whole")
    distiller = compiled()
    distiller.save(folder / "a.keras")
    distiller.save_weights(folder / "a.weights.h5")
    backup = Backup(folder / "backup", delete_checkpoint=False)
    x = np.ones((4, models.FEATURES), "float32")
    distiller.fit(x, np.zeros(4, "int32"), callbacks=[backup], verbose=0)
    (saved,) = (folder / "backup").iterdir()
    return {"keras": folder / "a.keras", "weights": folder / "a.weights.h5", "backup": saved}


def load(kind, path):
    """Loads a file as users do, and looks at what came of it."""
    if kind == "keras":
        distiller = keras.saving.load_model(path)
    else:
        distiller = compiled()
        if kind == "weights":
            distiller.load_weights(path)
        else:
            backup = Backup(path.parent, delete_checkpoint=False)
            x = np.ones((4, models.FEATURES), "float32")
            distiller.fit(x, np.zeros(4, "int32"), epochs=1, callbacks=[backup], verbose=0)
    assert isinstance(distiller, Distiller)
    weight = float(keras.ops.convert_to_numpy(distiller.kd_weight))
    assert weight >= 0
    return distiller


def check_harmless(kind, path):
    """Whether it was refused."""
    try:
        load(kind, path)
    except CLEAR:
        return True
    return False


# --- Bytes, of any kind of file.


def flipped(content, seed):
    places = random.Random(seed)
    content = bytearray(content)
    for _ in range(1 + len(content) // 2000):
        content[places.randrange(len(content))] ^= 1 << places.randrange(8)
    return bytes(content)


BYTES = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "a tenth": lambda content: content[: len(content) // 10],
    "a half": lambda content: content[: len(content) // 2],
    "all but one byte": lambda content: content[:-1],
    "its end": lambda content: content[len(content) // 2 :],
    "zeros": lambda content: bytes(len(content)),
    "zeros at its end": lambda content: content[: len(content) // 2] + bytes(len(content) // 2),
    "noise": lambda content: random.Random(0).randbytes(len(content)),
    "text": lambda content: b"<html>404</html>",
    "json": lambda content: json.dumps({"class_name": "Distiller"}).encode(),
    "reversed": lambda content: content[::-1],
    "pickle": lambda content: b"cos\nsystem\n(S'true'\ntR.",
    **{
        f"bits flipped, {seed}": lambda content, seed=seed: flipped(content, seed)
        for seed in range(5)
    },
}


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("kind", ["keras", "weights", "backup"])
def test_damaged_bytes(kind, damage, whole, tmp_path):
    path = tmp_path / whole[kind].name
    path.write_bytes(BYTES[damage](whole[kind].read_bytes()))
    refused = check_harmless(kind, path)
    # A flipped bit may lie where nothing is read.
    assert refused or ("flipped" in damage and kind != "backup")


@pytest.mark.parametrize("kind", ["keras", "weights"])
@pytest.mark.parametrize("what", ["missing", "folder", "other kind"])
def test_what_is_no_such_file(kind, what, whole, tmp_path):
    path = tmp_path / whole[kind].name
    if what == "folder":
        path.mkdir()
    elif what == "other kind":
        shutil.copy(whole["weights" if kind == "keras" else "keras"], path)
    assert check_harmless(kind, path)


# --- `.keras`: what the config asks for.


def changed(whole, path, change_config=None, *, members=()):
    """A copy of the `.keras` file with another config, or with members exchanged."""
    with zipfile.ZipFile(whole["keras"]) as source:
        content = {name: source.read(name) for name in source.namelist()}
    if change_config is not None:
        config = json.loads(content["config.json"])
        content["config.json"] = json.dumps(change_config(config)).encode()
    for name, value in dict(members).items():
        if value is None:
            del content[name]
        else:
            content[name] = value
    with zipfile.ZipFile(path, "w") as target:
        for name, value in content.items():
            target.writestr(name, value)
    return path


def at(*keys, value):
    """A change of one entry of the config; those before it must be there."""

    def change(config):
        entry = config
        for key in keys[:-1]:
            entry = entry[key]
        entry[keys[-1]] = value
        return config

    return change


def harmful_lambda():
    return keras.saving.serialize_keras_object(lambda x: harm(x))


def lambda_layer():
    return keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: harm(x)))


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def an_object(module, name, config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def nested(config, depth=3000):
    for _ in range(depth):
        config = [config]
    return config


LOSS = ("compile_config", "kd_loss")
CONFIGS = {
    "null": lambda config: None,
    "a list": lambda config: [config],
    "a number": lambda config: 5,
    "empty": lambda config: {},
    "no such class": lambda config: an_object("keras_ats", "Distillery", config["config"]),
    "no such module": lambda config: an_object("keras_ats.no", "Distiller", config["config"]),
    "of os": lambda config: an_object("os", "system", "true"),
    "of subprocess": lambda config: an_object("subprocess", "Popen", {"args": ["true"]}),
    "of builtins": lambda config: an_object("builtins", "exec", {"source": "harm()"}),
    "of this test": lambda config: function(__name__, "harm"),
    "teacher missing": lambda config: at("config", value={})(config),
    "teacher null": at("config", "teacher", value=None),
    "teacher a number": at("config", "teacher", value=5),
    "teacher a layer": at(
        "config",
        "teacher",
        value={
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"units": 3},
            "registered_name": None,
        },
    ),
    "teacher a lambda": lambda config: at("config", "teacher", value=lambda_layer())(config),
    "student a lambda": lambda config: at("config", "student", value=lambda_layer())(config),
    "student a function": at("config", "student", value=function(__name__, "harm")),
    "student of os": at("config", "student", value=an_object("os", "system", "true")),
    "inputs a lambda": lambda config: at("config", "teacher_inputs", value=harmful_lambda())(
        config
    ),
    "inputs of os": at("config", "teacher_inputs", value=function("os", "system")),
    "inputs of this test": at("config", "teacher_inputs", value=function(__name__, "harm")),
    "inputs a number": at("config", "teacher_inputs", value=an_object("os", "_exit", {})),
    "from_logits a string": at("config", "teacher_from_logits", value="harm()"),
    "name a dict": at("config", "name", value={"a": 1}),
    "strange argument": at("config", "harm", value=True),
    "loss unknown": at(*LOSS, value=an_object("keras_ats.losses", "Kullback", {})),
    "loss null": at(*LOSS, value=None),
    "loss a lambda": lambda config: at(*LOSS, value=harmful_lambda())(config),
    "loss of os": at(*LOSS, value=an_object("os", "system", "true")),
    "loss of this test": at(*LOSS, value=function(__name__, "harm")),
    "loss a layer": lambda config: at(*LOSS, value=lambda_layer())(config),
    "temperature negative": at(*LOSS, "config", "correct_temperature", value=-4.0),
    "temperature a string": at(*LOSS, "config", "correct_temperature", value="4; harm()"),
    "temperature nan": at(*LOSS, "config", "correct_temperature", value=float("nan")),
    "temperature a lambda": lambda config: at(
        *LOSS, "config", "correct_temperature", value=harmful_lambda()
    )(config),
    "weight huge": at("compile_config", "kd_weight", value=1e300),
    "weight infinite": at("compile_config", "kd_weight", value=float("inf")),
    "optimizer of os": at("compile_config", "optimizer", value=an_object("os", "system", "true")),
    "metric of this test": at(
        "compile_config", "distillation_metrics", value=[function(__name__, "harm")]
    ),
    "build of nothing": at("build_config", value={"input_shape": "harm()"}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configs(name, whole, tmp_path):
    path = changed(whole, tmp_path / "a.keras", CONFIGS[name])
    if not check_harmless("keras", path):
        # A function by its name is only referred to, and a shape that is known is not asked for.
        assert name in ("inputs of this test", "build of nothing")


def weights_of(model_path, change):
    """Bytes of a `.keras` file's weights, changed."""
    with zipfile.ZipFile(model_path) as source:
        stream = io.BytesIO(source.read("model.weights.h5"))
    with h5py.File(stream, "a") as file:
        change(file)
    return stream.getvalue()


MEMBERS = {
    "no config": {"config.json": None},
    "no weights": {"model.weights.h5": None},
    "no metadata": {"metadata.json": None},
    "config no json": {"config.json": b"{'class_name': harm()}"},
    "config no text": {"config.json": b"\xff\xfe\x00"},
    "config nested": {"config.json": b"[" * 900 + b"]" * 900},
    "weights no h5": {"model.weights.h5": b"harm()"},
    "weights empty": {"model.weights.h5": b""},
    "path out of the file": {"../../canary.txt": b"sang", "/tmp/keras_ats_canary.txt": b"sang"},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_hostile_members(name, whole, tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = changed(whole, folder / "a.keras", members=MEMBERS[name])
    refused = check_harmless("keras", path)
    assert refused or name in ("path out of the file", "no metadata")
    assert not (tmp_path / "canary.txt").exists()
    assert not os.path.exists("/tmp/keras_ats_canary.txt")


# --- `.weights.h5`, and a backup whose checksum is right: what the arrays are.


def objective_of(file):
    """The group in which the distiller's own variables lie."""
    found = []
    file.visititems(lambda name, item: found.append(name) if name.endswith("kd_weight") else None)
    return file[found[0].rpartition("/")[0]]


def put(name, value):
    def change(file):
        group = objective_of(file)
        (found,) = [one for one in group if one.endswith(name)]
        del group[found]
        group[found] = value

    return change


def without(name):
    return lambda file: objective_of(file).__delitem__(name)


def linked(file):
    group = objective_of(file)
    del group["kd_weight"]
    group["kd_weight"] = h5py.ExternalLink("/etc/passwd", "/kd_weight")


def looped(file):
    group = objective_of(file)
    del group["kd_weight"]
    group["kd_weight"] = h5py.SoftLink(group.name + "/kd_weight")


def grouped(file):
    group = objective_of(file)
    del group["kd_weight"]
    group.create_group("kd_weight/harm")


def foreign(file):
    for name in list(file):
        del file[name]
    file["model_weights"] = np.zeros(3)


def reshaped(file):
    def visit(name, item):
        if isinstance(item, h5py.Dataset) and item.ndim == 2 and "optimizer" not in name:
            found.append(name)

    found = []
    file.visititems(visit)
    del file[found[0]]
    file[found[0]] = np.zeros((2, 2))


ARRAYS = {
    "weight nan": put("kd_weight", np.float32("nan")),
    "weight negative": put("kd_weight", np.float32(-1)),
    "weight infinite": put("kd_weight", np.float32("inf")),
    "weight text": put("kd_weight", "harm()"),
    "weight an array": put("kd_weight", np.ones(3)),
    "weight a group": grouped,
    "weight missing": without("kd_weight"),
    "weight in another file": linked,
    "weight a loop": looped,
    "one more": lambda file: objective_of(file).create_dataset("harm", data=1.0),
    "temperature zero": put(".correct_temperature", np.float32(0)),
    "temperature nan": put(".wrong_temperature", np.float32("nan")),
    "foreign": foreign,
    "another shape": reshaped,
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("kind", ["weights", "backup"])
def test_hostile_arrays(kind, name, whole, tmp_path):
    path = tmp_path / "changed.weights.h5"
    shutil.copy(whole[kind], path)
    with h5py.File(path, "a") as file:
        ARRAYS[name](file)
    if kind == "backup":
        # As one would who knows how: with the checksum that is right for it.
        place = whole[kind].name.rpartition("-")[0]
        path = path.rename(tmp_path / f"{place}-{files.checksum(path)}.weights.h5")
    assert check_harmless(kind, path)


RECORDS = {
    "no json": "harm()",
    "null": "null",
    "a list": "[]",
    "empty": "{}",
    "of another model": json.dumps({"model": {"variables": []}}),
}


@pytest.mark.parametrize("name", RECORDS)
def test_hostile_records_of_backups(name, whole, tmp_path):
    path = tmp_path / "changed.weights.h5"
    shutil.copy(whole["backup"], path)
    with h5py.File(path, "a") as file:
        del file["keras_ats_backup/record"]
        file["keras_ats_backup/record"] = RECORDS[name]
    place = whole["backup"].name.rpartition("-")[0]
    path = path.rename(tmp_path / f"{place}-{files.checksum(path)}.weights.h5")
    assert check_harmless("backup", path)


def test_the_whole_files_load(whole, tmp_path):
    for kind, path in whole.items():
        load(kind, shutil.copy(path, tmp_path / path.name))
    assert keras_ats.callbacks.Backup(tmp_path).epoch == 1
