"""Intent classification with many classes: which teacher, which temperatures, how much is gained?

    python examples/intents.py all --data-dir DATA      # the four commands, one after the other
    python examples/intents.py teacher --data-dir DATA  # a small and a large one, on all sentences
    python examples/intents.py sweep --data-dir DATA    # temperatures, chosen on validation data
    python examples/intents.py compare --data-dir DATA  # with those, and labels alone, on test data
    python examples/intents.py report --data-dir DATA

Teachers and student are perceptrons on bags of n-grams; the student is small and is given few
sentences of each class. What is finished is kept in a folder, and the same command goes on where it
was stopped, however it was stopped. DATA holds CLINC150 or Banking77 (docs/guides/data.md).
"""

import argparse
import functools
import itertools
import json
import platform
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np

import keras_ats
from keras_ats import files, losses

TEACHERS = {"small": (64,), "large": (512, 512)}  # units of the hidden layers
STUDENT = (24,)
NGRAMS, LONGEST = 2048, 24  # in the vocabulary, and of a sentence
BATCH_SIZE = 300
SWEEP_SEEDS = [100, 101]
COMMANDS = ("teacher", "sweep", "compare", "report")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("all", *COMMANDS))
    parser.add_argument("--data", choices=("clinc150", "banking77"), default="clinc150")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the files lie")
    parser.add_argument("--few", type=int, default=20, help="sentences of a class (default: 20)")
    parser.add_argument("--epochs", type=int, default=40, help="of a student (default: 40)")
    parser.add_argument("--teacher-epochs", type=int, default=15, help="default: 15")
    parser.add_argument("--seeds", type=int, default=5, help="of the comparison (default: 5)")
    grid = {"type": float, "nargs": "+"}
    # One temperature is a pair of equal ones, so that the methods differ in nothing else.
    parser.add_argument("--correct-temperatures", **grid, default=[2.0, 4.0, 6.0, 8.0])
    parser.add_argument("--wrong-temperatures", **grid, default=[2.0, 4.0, 6.0])
    parser.add_argument("--output", type=Path, default=Path("intents-output"))
    parser.add_argument("--json", type=Path, help="where `report` writes every number as well")
    options = parser.parse_args()
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)  # Sharing out work as small as this takes longer than doing it.
    try:
        experiment = Experiment(options)
        for command in COMMANDS if options.command == "all" else [options.command]:
            getattr(experiment, command)()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on.")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


class Experiment:
    """The commands, on one data set."""

    def __init__(self, options: argparse.Namespace) -> None:
        fraction = 0.1 if options.data == "banking77" else 0.0
        splits = keras_ats.data.load(
            options.data, options.data_dir, validation_fraction=fraction, verbose=False
        )
        vocabulary = most_common_ngrams(splits.train.sentences)
        self.train, self.validation, self.test = (
            (ids_of(split.sentences, vocabulary), split.labels) for split in splits
        )
        self.classes = len(splits.train.class_names)
        few = splits.train.subset(options.few * self.classes)
        # Their places among all that the teachers were trained on.
        self.places = np.flatnonzero(np.isin(splits.train.ids, few.ids))
        self.options = options
        name = f"{options.data}-{options.few}-{options.epochs}epochs"
        self.folder = options.output / name

    def teacher(self) -> None:
        """Trains the teachers."""
        for name in TEACHERS:
            teacher = self.trained(name)
            print(f"{name} teacher: test accuracy {accuracy(teacher, self.test):.2f} %")

    def sweep(self) -> None:
        """Tries pairs of temperatures on validation data."""
        for name in TEACHERS:
            print(f"\nFrom the {name} teacher, on validation data:")
            print(self.search(name))

    def compare(self) -> None:
        """Trains students with the temperatures chosen, and alone, and looks at test data."""
        for name in TEACHERS:
            print(f"\nFrom the {name} teacher, on test data:")
            print(self.comparison(name))

    def report(self) -> None:
        """Prints differences between students of one seed, in points."""
        results = {name: self.comparison(name) for name in TEACHERS}
        values = {
            (name, method.partition(" (")[0]): np.array(each)
            for name, result in results.items()
            for method, each in result.values.items()
        }
        print(f"\n{self.folder}: test accuracy, points, mean ± standard error over seeds")
        for title, one, other in differences():
            gaps = 100 * (values[one] - values[other])
            error = gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else np.nan
            print(f"{gaps.mean():+6.2f} ± {error:.2f}  {title}")
        if self.options.json:
            with files.whole_file(self.options.json) as unfinished:
                unfinished.write_text(json.dumps(self.numbers(results), indent=1) + "\n")

    def numbers(self, results: dict) -> dict:
        """Every run, and what it was computed with."""
        backend = keras.backend.backend()
        return {
            "config": {
                "data": self.options.data,
                "few": self.options.few,
                "epochs": self.options.epochs,
                "teacher_epochs": self.options.teacher_epochs,
                "teachers": TEACHERS,
                "student": STUDENT,
                "ngrams": NGRAMS,
                "batch_size": BATCH_SIZE,
            },
            "versions": {
                "keras_ats": keras_ats.__version__,
                "keras": keras.__version__,
                "backend": f"{backend} {__import__(backend).__version__}",
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "teachers": {
                name: {
                    "test_percent": accuracy(self.trained(name), self.test),
                    "parameters": self.trained(name).count_params(),
                }
                for name in TEACHERS
            },
            "student_parameters": self.student().count_params(),
            "sweep": {
                name: {
                    "student alone": search.alone,
                    **{f"{pair[0]:g}, {pair[1]:g}": each for pair, each in search.values.items()},
                }
                for name, search in ((name, self.search(name)) for name in TEACHERS)
            },
            "comparison": {name: result.to_dict() for name, result in results.items()},
        }

    @functools.cache  # noqa: B019 - there is one experiment
    def trained(self, name: str) -> keras.Model:
        """The teacher, from its file or from training."""
        path = self.folder / f"{name}.keras"
        if path.exists():
            return keras.saving.load_model(path)
        print(f"Training the {name} teacher")
        keras.utils.set_random_seed(0)
        teacher = self.network(*TEACHERS[name])
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        epochs = self.options.teacher_epochs
        teacher.compile(adam(0.005, epochs * len(self.train[1])), crossentropy)
        teacher.fit(*self.train, batch_size=BATCH_SIZE, epochs=epochs, verbose=2)
        with files.whole_file(path) as unfinished:
            teacher.save(unfinished)
        return teacher

    @functools.cache  # noqa: B019
    def few(self, name: str) -> tuple:
        """What the teacher says of the student's sentences, and the data with it."""
        few = tuple(part[self.places] for part in self.train)
        cache = keras_ats.cache_teacher(self.trained(name), few, self.folder / f"said-by-{name}")
        return cache, cache.attach(few)

    @functools.cache  # noqa: B019
    def search(self, name: str) -> keras_ats.recipes.TemperatureSearch:
        """The sweep over temperatures."""
        cache, few = self.few(name)
        folder = self.folder / f"sweep-{name}"
        return keras_ats.search_temperatures(
            *(cache, self.student, few, self.validation),
            correct_temperatures=self.options.correct_temperatures,
            wrong_temperatures=self.options.wrong_temperatures,
            **self.budget(folder),
            seeds=SWEEP_SEEDS,
        )

    @functools.cache  # noqa: B019
    def comparison(self, name: str) -> keras_ats.recipes.Comparison:
        """The comparison of what the sweep has chosen."""
        means = self.search(name).means
        equal = [pair for pair in means if pair[0] == pair[1]]
        chosen = {
            "one temperature": max(equal, key=means.get),
            "ATS": max([pair for pair in means if pair not in equal], key=means.get),
            "ATS as published": (4.0, 2.0),
            # By a rule that looks at the teacher alone.
            "ATS as suggested": self.suggestion(name)[:2],
        }
        kd_losses = {
            f"{method} ({pair[0]:.3g}, {pair[1]:.3g})": losses.AsymmetricTemperatureKD(*pair)
            for method, pair in chosen.items()
        }
        cache, few = self.few(name)
        folder = self.folder / f"comparison-{name}"
        seeds = range(self.options.seeds)
        return keras_ats.compare(
            *(cache, self.student, few, self.test, kd_losses), **self.budget(folder), seeds=seeds
        )

    def suggestion(self, name: str) -> tuple:
        """What `suggest_temperatures` says, of validation data."""
        return keras_ats.suggest_temperatures(self.trained(name), self.validation, verbose=False)

    def budget(self, folder: Path) -> dict:
        """What all students have in common."""
        return {
            "epochs": self.options.epochs,
            "batch_size": BATCH_SIZE,
            "optimizer": lambda: adam(0.01, self.options.epochs * len(self.places)),
            "folder": folder,
        }

    def student(self) -> keras.Model:
        """A new student."""
        return self.network(*STUDENT)

    def network(self, *units: int) -> keras.Model:
        """A perceptron on a bag of n-grams, with logits.

        The rows of the embedding are added up: what a dense layer makes of zeros and ones.
        """
        ngrams = keras.Input((LONGEST,), dtype="int32")
        rows = keras.layers.Embedding(NGRAMS + 1, units[0], "glorot_uniform")(ngrams)
        known = keras.ops.cast(ngrams > 0, "float32")[..., None]
        hidden = keras.layers.ReLU()(keras.ops.sum(rows * known, axis=1))
        for more in units[1:]:
            hidden = keras.layers.Dense(more, "relu")(hidden)
        return keras.Model(ngrams, keras.layers.Dense(self.classes)(hidden))


def differences() -> list:
    """What is compared, as a title and two pairs of teacher and method."""
    alone, one = "student alone", "one temperature"
    gains = [
        (f"{method} from the {name} teacher, over the student alone", (name, method), (name, alone))
        for name in TEACHERS
        for method in (one, "ATS", "ATS as published", "ATS as suggested")
    ]
    instead = [
        (f"ATS instead of one temperature, {name} teacher", (name, "ATS"), (name, one))
        for name in TEACHERS
    ]
    larger = [
        (f"large instead of small teacher, {method}", ("large", method), ("small", method))
        for method in (one, "ATS")
    ]
    return gains + instead + larger


def adam(rate: float, samples: int) -> keras.optimizers.Optimizer:
    """Adam, whose rate falls to 0 by a cosine."""
    steps = -(-samples // BATCH_SIZE)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))


def accuracy(model: keras.Model, split: tuple) -> float:
    predictions = model.predict(split[0], batch_size=len(split[1]), verbose=0).argmax(axis=-1)
    return 100 * float(np.mean(predictions == split[1]))


def ngrams_of(sentence: str) -> list[str]:
    """Its words and pairs of neighbouring words, each once."""
    words = sentence.lower().split()
    return list(dict.fromkeys([*words, *map(" ".join, itertools.pairwise(words))]))


def most_common_ngrams(sentences: np.ndarray) -> dict[str, int]:
    """Their ids, from 1 on."""
    counts = Counter(itertools.chain.from_iterable(map(ngrams_of, sentences)))
    return {ngram: place for place, (ngram, _) in enumerate(counts.most_common(NGRAMS), start=1)}


def ids_of(sentences: np.ndarray, vocabulary: dict[str, int]) -> np.ndarray:
    """The ids of each sentence's known n-grams, 0 behind them."""
    ids = np.zeros((len(sentences), LONGEST), "int32")
    for row, sentence in zip(ids, sentences, strict=True):
        known = [vocabulary[ngram] for ngram in ngrams_of(sentence) if ngram in vocabulary]
        row[: len(known)] = known[:LONGEST]
    return ids


if __name__ == "__main__":
    main()
