"""What a cached teacher costs beside a live one and beside none.

    KERAS_BACKEND=jax python benchmarks/cache.py [--rounds 8] [--output] [--part steps]

Parts: `steps` (a cached step beside a plain student step and a live distillation step, ResNet-20 to
ResNet-8, batches of 128, and reading alone), `large` (a larger teacher), `sweep` (ten temperatures,
with and without a cache, end to end), `cost` (bytes and seconds as samples and classes grow),
`top_k` (error and size at 100,000 classes), `intents` (the same for a teacher that has learned 150
intents from the sentences of `--intents`, the JSON file of CLINC150), `phrases` (the same for one
that has learned which of 100,000 phrases of these sentences follow a word).
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import harness
import keras
import numpy as np

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD
from keras_ats.models import get
from keras_ats.ops.tail import tail_log_sum_exp
from keras_ats.teachers.cache.rows import RowFormat

BATCH, CLASSES = 128, 100
PARTS = ("steps", "large", "sweep", "cost", "top_k", "intents", "phrases")


def main() -> None:
    """Runs the parts that are asked for."""
    arguments = harness.parse_arguments(__doc__, add_options)
    parts = [arguments.part] if arguments.part else list(PARTS)
    if arguments.intents is None:
        parts = [part for part in parts if part not in ("intents", "phrases")]
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            globals()[part](Path(folder) / part, arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this script takes besides the harness's options."""
    parser.add_argument("--part", choices=PARTS, help="defaults to all")
    parser.add_argument("--teacher", default="wrn_28_4", help="of the part `large`")
    parser.add_argument("--steps", type=int, default=4, help="batches per contestant and round")
    parser.add_argument("--sweep-samples", type=int, default=4 * BATCH, help="of the part `sweep`")
    parser.add_argument("--intents", type=Path, help="CLINC150's data_full.json")
    parser.add_argument("--most-samples", type=int, default=50_000, help="of the part `cost`")


def images(count: int) -> keras_ats.data.Samples:
    """Random images in the form of CIFAR-100."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return keras_ats.data.Samples.from_arrays(x, np.arange(count) % CLASSES)


def distiller(teacher: object, seed: int = 0) -> keras_ats.Distiller:
    """A compiled distiller with a new ResNet-8."""
    keras.utils.set_random_seed(seed)
    made = keras_ats.Distiller(teacher, get("resnet8", num_classes=CLASSES, name="student"))
    made.compile(keras.optimizers.SGD(0.05, 0.9), kd_loss=AsymmetricTemperatureKD(4, 2))
    return made


def plain() -> keras.Model:
    """A compiled ResNet-8 by itself."""
    student = get("resnet8", num_classes=CLASSES, name="plain")
    student.compile(
        keras.optimizers.SGD(0.05, 0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return student


def fit(model: keras.Model, dataset: object, steps: int) -> harness.Contestant:
    """Goes on with one dataset for so many steps; all contestants read augmented batches."""
    return lambda: model.fit(dataset, steps_per_epoch=steps, verbose=0)


def compared(teacher: keras.Model, folder: Path, arguments: argparse.Namespace, name: str) -> None:
    """A plain, a cached and a live step, and reading alone."""
    steps = arguments.steps
    samples = images(BATCH * steps)
    cache = keras_ats.cache_teacher(teacher, samples, folder, views=1, batch_size=BATCH, verbose=0)
    places = np.random.default_rng(0).permutation(len(samples)).reshape(steps, BATCH)

    def read() -> None:
        for chosen in places:
            cache._riders.flat(0, samples.ids[chosen])

    live = samples.batches(BATCH, shuffle=True, augment=True)
    contestants = {
        "student step": fit(plain(), samples.batches(BATCH, shuffle=True, augment=True), steps),
        "cached step": fit(distiller(cache), cache.batches(BATCH, shuffle=True), steps),
        "live step": fit(distiller(teacher), live, steps),
        "reading": read,
    }
    found = harness.report(
        harness.measure(contestants, arguments, calls=steps),
        {
            "cached step / student step": ("cached step", "student step"),
            "live step / cached step": ("live step", "cached step"),
            "reading / student step": ("reading", "student step"),
        },
        "milliseconds per batch",
        batch_size=BATCH,
        teacher=teacher.name,
    )
    harness.publish(found, f"{name}_{keras.backend.backend()}", arguments)


def steps(folder: Path, arguments: argparse.Namespace) -> None:
    """ResNet-20 teaches ResNet-8."""
    compared(
        get("resnet20", num_classes=CLASSES, name="resnet20"), folder, arguments, "cache_steps"
    )


def large(folder: Path, arguments: argparse.Namespace) -> None:
    """A larger teacher."""
    name = arguments.teacher
    teacher = get(name, num_classes=CLASSES, name=name)
    compared(teacher, folder, arguments, "cache_large")


def sweep(folder: Path, arguments: argparse.Namespace) -> None:
    """Ten pairs of temperatures, a short run each, with the live teacher and with a cache."""
    samples, epochs = images(arguments.sweep_samples), 2
    teacher = get(arguments.teacher, num_classes=CLASSES, name=arguments.teacher)
    minutes = {}
    clock = time.process_time if arguments.processor_time else time.perf_counter
    for name in ("live", "cached"):
        start = clock()
        source: object = teacher
        batches = samples.batches(BATCH, shuffle=True, augment=True, views=epochs)
        if name == "cached":
            source = keras_ats.cache_teacher(
                teacher, samples, folder, views=epochs, batch_size=BATCH, verbose=0
            )
            batches = source.batches(BATCH, shuffle=True)
        one = distiller(source)
        begin = one.student.get_weights()
        for correct in np.linspace(2, 6.5, 10):
            # Temperatures are variables: nothing is compiled anew.
            one.kd_loss.correct_temperature = float(correct)
            one.student.set_weights(begin)
            one.fit(batches, steps_per_epoch=samples.steps(BATCH), epochs=epochs, verbose=0)
        minutes[name] = round((clock() - start) / 60, 2)
    found = {
        "minutes": minutes,
        "ratio": round(minutes["live"] / minutes["cached"], 2),
        "runs": 10,
        "epochs": epochs,
        "samples": len(samples),
        "teacher": arguments.teacher,
        "clock": "processor" if arguments.processor_time else "wall",
        "machine": harness.machine(),
    }
    keep(found, f"cache_sweep_{keras.backend.backend()}", arguments)


def cost(folder: Path, arguments: argparse.Namespace) -> None:
    """Bytes and seconds of writing and reading all, for a teacher that costs nothing."""
    table = []
    for count, classes in itertools.product((1000, 10_000, 50_000), (10, 100, 1000)):
        if count > arguments.most_samples:
            continue
        kernel = np.random.default_rng(0).normal(size=(16, classes)).astype("float32")
        x = np.random.default_rng(1).normal(size=(count, 16)).astype("float32")
        start = time.perf_counter()
        cache = keras_ats.cache_teacher(
            lambda batch, kernel=kernel: batch @ kernel,
            x,
            folder / f"{count}_{classes}",
            name="matrix",
            batch_size=BATCH,
            verbose=0,
        )
        written = time.perf_counter() - start
        start = time.perf_counter()
        order = np.random.default_rng(2).permutation(count)
        for at in range(0, count, BATCH):
            cache._riders.flat(0, order[at : at + BATCH])
        table.append(
            {
                "samples": count,
                "classes": classes,
                "bytes": cache.bytes,
                "bytes_of_a_row": cache.bytes / count,
                "seconds_to_write": round(written, 3),
                "seconds_to_read": round(time.perf_counter() - start, 3),
            }
        )
        shutil.rmtree(folder / f"{count}_{classes}")
    keep({"rows": table, "machine": harness.machine()}, "cache_cost", arguments)


def top_k(folder: Path, arguments: argparse.Namespace) -> None:
    """The error of the others' share at 100,000 classes, on logits of several kinds."""
    rng, rows, classes, kept = np.random.default_rng(0), 100, 100_000, 64
    hidden = rng.normal(size=(rows, 64))
    kinds = {
        "normal": rng.normal(0, 3, (rows, classes)),
        "heavy": 2 * rng.standard_t(3, (rows, classes)),
        "network": hidden @ rng.normal(0, 0.5, (64, classes)) + rng.normal(-2, 1, classes),
    }
    table = [{"kind": name} | tail_errors(one, kept) for name, one in kinds.items()]
    keep({"rows": table, "classes": classes, "top_k": kept}, "cache_top_k", arguments)


def intents(folder: Path, arguments: argparse.Namespace) -> None:
    """The error of the others' share in the logits of a teacher that has learned 150 intents."""
    data = json.loads(arguments.intents.read_text())
    names = sorted({intent for _, intent in data["train"]})
    (x, y), (held_out, expected) = (bags_of_words(data[part], names) for part in ("train", "test"))
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Dense(128, "relu"),
            keras.layers.Dense(len(names)),
        ]
    )
    teacher.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(x, y, batch_size=128, epochs=5, verbose=0)
    logits = teacher.predict(held_out, verbose=0)
    accuracy = float((logits.argmax(axis=-1) == expected).mean())
    table = [{"top_k": kept} | tail_errors(logits, kept) for kept in (4, 16, 64)]
    found = {"rows": table, "classes": len(names), "samples": len(logits), "accuracy": accuracy}
    keep(found | {"machine": harness.machine()}, "cache_top_k_intents", arguments)


def phrases(folder: Path, arguments: argparse.Namespace) -> None:
    """The error of the others' share where a teacher has learned 100,000 classes."""
    classes = 100_000
    data = json.loads(arguments.intents.read_text())
    pairs = phrases_after_words(data["train"])
    words = sorted({word for word, _ in pairs})
    common = [phrase for phrase, _ in Counter(phrase for _, phrase in pairs).most_common(classes)]
    if len(common) < classes:
        raise ValueError(f"There are {len(common)} phrases in {arguments.intents}, not {classes}.")
    word_ids = {word: number for number, word in enumerate(words)}
    phrase_ids = {phrase: number for number, phrase in enumerate(common)}
    known = [(word_ids[word], phrase_ids[one]) for word, one in pairs if one in phrase_ids]
    x, y = np.array(known).T
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            keras.layers.Embedding(len(words), 64),
            keras.layers.Dense(classes),
        ]
    )
    teacher.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = teacher.fit(x, y, batch_size=1024, epochs=1, steps_per_epoch=200, verbose=0).history
    # What follows words of sentences that it has not seen.
    asked = [word_ids[word] for word, _ in phrases_after_words(data["test"]) if word in word_ids]
    logits = teacher.predict(np.random.default_rng(0).permutation(asked)[:100], verbose=0)
    table = [{"top_k": kept} | tail_errors(logits, kept) for kept in (16, 64, 256)]
    found = {"rows": table, "classes": classes, "loss": losses["loss"][-1]}
    keep(found | {"machine": harness.machine()}, "cache_top_k_phrases", arguments)


def phrases_after_words(pairs: list) -> list[tuple[str, str]]:
    """Each word of the sentences with the one, two, three and four words that follow it."""
    found = []
    for sentence, _ in pairs:
        words = ["<start>", *sentence.lower().split()]
        for place, length in itertools.product(range(len(words)), range(1, 5)):
            if place + length < len(words):
                found.append((words[place], " ".join(words[place + 1 : place + 1 + length])))
    return found


def bags_of_words(pairs: list, names: list[str], width: int = 2048) -> tuple:
    """Sentences as counts of hashed words, and their intents as ids."""
    counts = np.zeros((len(pairs), width), "float32")
    for row, (sentence, _) in enumerate(pairs):
        for word in sentence.lower().split():
            counts[row, zlib.crc32(word.encode()) % width] += 1
    return counts, np.array([names.index(intent) for _, intent in pairs])


def tail_errors(logits: np.ndarray, kept: int) -> dict[str, float]:
    """Largest error of the others' share for temperatures from 0.5 to 20, and the size of a row."""
    logits = logits.astype("float32")
    form = RowFormat(logits.shape[-1], top_k=kept, labels=1)
    stored = form.encode(logits, logits.argmax(axis=-1))
    rest = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    worst = {"error": 0.0, "error_of_dropping": 0.0}
    for temperature in (0.5, 1.0, 2.0, 4.0, 8.0, 20.0):
        scaled = np.exp(rest / temperature)
        top = np.take_along_axis(scaled, stored["ids"].astype(int), axis=-1).sum(axis=-1)
        share = 1 - top / scaled.sum(axis=-1)
        others = tail_log_sum_exp(stored["tail"], stored["count"], stored["mean"], temperature)
        tail = np.exp(keras.ops.convert_to_numpy(others).astype("float64"))
        worst["error"] = max(worst["error"], float(np.abs(tail / (tail + top) - share).max()))
        worst["error_of_dropping"] = max(worst["error_of_dropping"], float(share.max()))
    return worst | {"bytes_of_a_row": form.record.itemsize, "bytes_in_full": 2 * form.classes + 4}


def keep(found: dict, name: str, arguments: argparse.Namespace) -> None:
    """Prints what was found as one line of JSON; with `--output` writes it."""
    print(name, json.dumps(found), flush=True)
    if arguments.output:
        harness.RESULTS.mkdir(exist_ok=True)
        (harness.RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
