"""How long a distillation step takes, beside what it cannot do without and beside other ways.

    KERAS_BACKEND=torch python benchmarks/step.py [--short] [--output] [--features]

Teacher ResNet-20, student ResNet-8, images of 32x32, 100 classes, batches of 128. The floor is one
plain student step plus one forward pass of the teacher. On torch, two loops in plain PyTorch over
the same networks compete too: one that keeps gradients away from the teacher, and one that, like
the code of many papers, does not. See `harness` for how it is measured.

With `--features`, steps of ATS with a loss on inner layers beside it are measured against the step
of ATS alone, method by method: at the last stage, or what the method is made for.
"""

import argparse

import harness
import keras
import numpy as np
from keras import ops

import keras_ats
from keras_ats.models import get

CLASSES, BATCH = 100, 128
TEMPERATURE = 4.0
OPTIMIZER = {"class_name": "SGD", "config": {"learning_rate": 0.05, "momentum": 0.9}}


def main() -> None:
    arguments = harness.parse_arguments(__doc__, add_options)
    steps = 2 if arguments.short else 8
    if arguments.features is not None:
        measure_features(arguments, steps)
        return
    rounds = harness.measure(contestants(steps), arguments, calls=steps)
    floor = ("student step", "teacher forward")
    others = [name for name in rounds if name.endswith(" step") and name != "student step"]
    ratios = {f"{name} / floor": (name, floor) for name in others}
    ratios |= {
        f"keras_ats step / {name}": ("keras_ats step", name)
        for name in others
        if name not in ("keras_ats step", "keras_ats ATS step")
    }
    ratios |= {
        f"{name} / student evaluate": (name, "student evaluate")
        for name in rounds
        if name.endswith(" evaluate") and name != "student evaluate"
    }
    found = harness.report(
        rounds, ratios, f"milliseconds per batch of {BATCH}", batch_size=BATCH, steps=steps
    )
    harness.publish(found, f"step_{keras.backend.backend()}", arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what only this script has."""
    parser.add_argument(
        "--features",
        nargs="*",
        metavar="METHOD",
        help="compare losses on inner layers with none; those that are named, or all",
    )


def measure_features(arguments: argparse.Namespace, steps: int) -> None:
    """Measures a step with each loss on inner layers, beside the step without."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * steps, 32, 32, 3)).astype("float32")
    y, ids = rng.integers(0, CLASSES, size=len(x)), np.arange(len(x))
    teacher = get("resnet20", num_classes=CLASSES, name="teacher")
    ats = keras_ats.losses.AsymmetricTemperatureKD(4.0, 2.0)

    def fit(network: keras.Model, loss: object, inputs: object) -> harness.Contestant:
        model = keras_ats.Distiller(teacher, network)
        model.compile(
            keras.optimizers.get(OPTIMIZER),
            kd_loss=[ats] if loss is None else [ats, loss],
            kd_weight=[0.5] if loss is None else [0.5, 1.0],
            student_weight=0.5,
        )
        return lambda: model.fit(inputs, y, batch_size=BATCH, verbose=0, shuffle=False)

    runs = {"ATS step": fit(student(), None, x)}
    for name in arguments.features or feature_losses(student(), teacher, len(x)):
        # Its layers have names of their own: they count.
        network = student()
        loss = feature_losses(network, teacher, len(x))[name]
        inputs = {"x": x, "ids": ids} if loss.needs.ids else x
        runs[f"ATS + {name} step"] = fit(network, loss, inputs)
    rounds = harness.measure(runs, arguments, calls=steps)
    ratios = {f"{name} / ATS step": (name, "ATS step") for name in rounds if name != "ATS step"}
    found = harness.report(
        rounds, ratios, f"milliseconds per batch of {BATCH}", batch_size=BATCH, steps=steps
    )
    some = "_some" if arguments.features else ""
    harness.publish(found, f"step_features{some}_{keras.backend.backend()}", arguments)


def feature_losses(
    network: keras.Model, teacher: keras.Model, samples: int
) -> dict[str, keras_ats.features.FeatureLoss]:
    """Every method by name, for the layers that it is made for."""
    stages = ["stage1", "stage2", "stage3"]
    last, vector = ("stage3", "stage3"), ("pool", "pool")
    before = _last_normalization(network), _last_normalization(teacher)
    methods = keras_ats.features
    return {
        "Hint": methods.Hint(*last),
        "Hint, orthogonal": methods.Hint(
            *last, projector="orthogonal", normalize=True, pool=True, distance="huber"
        ),
        "AttentionTransfer": methods.AttentionTransfer(*last),
        "NeuronSelectivity": methods.NeuronSelectivity(*last),
        "VariationalInformation": methods.VariationalInformation(*last),
        "FeatureOverhaul": methods.FeatureOverhaul(*before),
        "KnowledgeReview": methods.KnowledgeReview([*stages, "pool"], [*stages, "pool"]),
        "GaussianWasserstein": methods.GaussianWasserstein(*last),
        "ReusedClassifier": methods.ReusedClassifier(*last),
        "ClassAttention": methods.ClassAttention(*last),
        "SimilarityPreserving": methods.SimilarityPreserving(*last),
        "RelationalDistances": methods.RelationalDistances(*vector),
        "ProbabilisticTransfer": methods.ProbabilisticTransfer(*vector),
        "CorrelationCongruence": methods.CorrelationCongruence(*vector),
        "ContrastiveRepresentation": methods.ContrastiveRepresentation(*vector, samples=samples),
    }


def _last_normalization(model: keras.Model) -> str:
    """Name of the last BatchNormalization."""
    kind = keras.layers.BatchNormalization
    return [one.name for one in model.layers if isinstance(one, kind)][-1]


def contestants(steps: int) -> dict[str, harness.Contestant]:
    """One callable per contestant; each runs `steps` batches."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * steps, 32, 32, 3)).astype("float32")
    y = rng.integers(0, CLASSES, size=len(x))
    teacher = get("resnet20", num_classes=CLASSES, name="teacher")
    plain, same, asymmetric, stock, written = (student() for _ in range(5))
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile(keras.optimizers.get(OPTIMIZER), loss=crossentropy)
    ours = distiller(teacher, same, keras_ats.losses.TemperatureKD(TEMPERATURE))
    ours_asymmetric = distiller(
        teacher, asymmetric, keras_ats.losses.AsymmetricTemperatureKD(4.0, 2.0)
    )
    theirs = keras.distillation.Distiller(
        # A copy: Keras's distiller sets `trainable` on the teacher that it is given.
        keras.models.clone_model(teacher),
        stock,
        # Its default loss has no softmax; this one is the right one.
        distillation_losses=keras.distillation.LogitsDistillation(
            TEMPERATURE, loss=keras.losses.KLDivergence()
        ),
    )
    theirs.compile(keras.optimizers.get(OPTIMIZER), loss=crossentropy)
    by_hand = HandWritten(written, teacher)
    by_hand.compile(keras.optimizers.get(OPTIMIZER), loss=crossentropy)

    def fit(model: keras.Model) -> harness.Contestant:
        return lambda: model.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False)

    def evaluate(model: keras.Model) -> harness.Contestant:
        return lambda: model.evaluate(x, y, batch_size=BATCH, verbose=0)

    runs = {
        "student step": fit(plain),
        "teacher forward": lambda: teacher.predict(x, batch_size=BATCH, verbose=0),
        "keras_ats step": fit(ours),
        "keras_ats ATS step": fit(ours_asymmetric),
        "keras.distillation step": fit(theirs),
        "hand-written Keras step": fit(by_hand),
        "student evaluate": evaluate(plain),
        "keras_ats evaluate": evaluate(ours),
        "keras.distillation evaluate": evaluate(theirs),
    }
    if keras.backend.backend() == "torch":
        runs["PyTorch loop step"] = torch_loop(teacher, x, y, keeps_graph=False)
        runs["PyTorch loop without no_grad step"] = torch_loop(teacher, x, y, keeps_graph=True)
    return runs


def student() -> keras.Model:
    return get("resnet8", num_classes=CLASSES)


def distiller(teacher: keras.Model, network: keras.Model, loss: object) -> keras.Model:
    model = keras_ats.Distiller(teacher, network)
    model.compile(keras.optimizers.get(OPTIMIZER), kd_loss=loss)
    return model


class HandWritten(keras.Model):
    """What one writes after reading a tutorial: the loss overridden, the teacher called in it."""

    def __init__(self, network: keras.Model, teacher: keras.Model) -> None:
        super().__init__()
        self.network = network
        # A copy, because this freezes what it is given.
        self.teacher = keras.models.clone_model(teacher)
        self.teacher.trainable = False
        self.built = True

    def call(self, inputs: object, training: bool | None = None) -> object:
        """Returns what the student says."""
        return self.network(inputs, training=training)

    def compute_loss(
        self,
        x: object = None,
        y: object = None,
        y_pred: object = None,
        sample_weight: object = None,
        training: bool = True,
    ) -> object:
        """Returns half of the labels' loss and half of the teacher's."""
        student_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        said = ops.stop_gradient(self.teacher(x, training=False))
        targets = ops.softmax(said / TEMPERATURE, axis=-1)
        answers = ops.log_softmax(y_pred / TEMPERATURE, axis=-1)
        terms = targets * (ops.log_softmax(said / TEMPERATURE, axis=-1) - answers)
        kd_loss = ops.mean(ops.sum(terms, axis=-1)) * TEMPERATURE**2
        return 0.5 * student_loss + 0.5 * kd_loss


def torch_loop(
    teacher: keras.Model, x: np.ndarray, y: np.ndarray, *, keeps_graph: bool
) -> harness.Contestant:
    """A loop in plain PyTorch, and its optimizer, over the same networks."""
    import torch

    network = student()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    inputs, labels = torch.as_tensor(x), torch.as_tensor(y)
    divergence = torch.nn.KLDivLoss(reduction="batchmean")

    def run() -> None:
        for start in range(0, len(x), BATCH):
            batch, label = inputs[start : start + BATCH], labels[start : start + BATCH]
            with torch.set_grad_enabled(keeps_graph):
                said = teacher(batch, training=False)
            logits = network(batch, training=True)
            kd_loss = divergence(
                torch.log_softmax(logits / TEMPERATURE, dim=-1),
                # Whoever forgets `no_grad` detaches the targets at most.
                torch.softmax(said.detach() / TEMPERATURE, dim=-1),
            )
            loss = 0.5 * torch.nn.functional.cross_entropy(logits, label)
            loss = loss + 0.5 * TEMPERATURE**2 * kd_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
