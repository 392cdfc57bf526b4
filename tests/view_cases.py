"""Models with every ending that is read, and their logits worked out by hand."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import models
import numpy as np
from keras import layers

FEATURES, CLASSES, STEPS = models.FEATURES, models.CLASSES, 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, what it is fed, and its logits worked out by hand."""

    build: Callable
    logits: Callable = None
    feed: Callable = None
    ending: str = "softmax"
    tolerance: float = 1e-5  # of the logits
    output_tolerance: float = 1e-6

    def inputs(self, rng):
        return (self.feed or vectors)(rng)

    def expected_logits(self, model, x):
        return (self.logits or mlp)(model.get_weights(), x)

    def expected_outputs(self, logits):
        return activated(logits, self.ending)


def activated(logits, ending):
    """What a model with this ending makes of logits, float64."""
    logits = np.float64(logits)
    log_p = models.log_softmax(logits) if "softmax" in ending else -np.logaddexp(0, -logits)
    return log_p if ending.startswith("log_") else np.exp(log_p)


def vectors(rng):
    return rng.normal(size=(6, FEATURES)).astype("float32")


def series(rng):
    return rng.normal(size=(6, STEPS, FEATURES)).astype("float32")


def images(rng):
    return rng.normal(size=(3, *models.IMAGE)).astype("float32")


def pair_of_vectors(rng):
    return [vectors(rng), vectors(rng)]


def named_vectors(rng):
    return {"left": vectors(rng), "right": vectors(rng)}


def mlp(weights, x):
    """Works on any leading axes: vectors, series, pixels."""
    kernel, bias, head, head_bias = (weight.astype("float64") for weight in weights)
    kernel, head = (w.reshape(w.shape[-2:]) for w in (kernel, head))  # of a 1x1 convolution
    return np.tanh(x @ kernel + bias) @ head + head_bias


def sum_mlp(weights, x):
    return mlp(weights, x[0] + 2 * x[1])


def swapped_sum_mlp(weights, x):
    return mlp(weights, x[1] + 2 * x[0])


def named_sum_mlp(weights, x):
    return mlp(weights, x["left"] + 2 * x["right"])


def hidden_layer():
    return layers.Dense(7, "tanh")


def sequential(*head, shape=(FEATURES,)):
    """A hidden layer, then `head`."""
    return lambda: keras.Sequential(
        [keras.Input(shape), hidden_layer(), *(make() for make in head)]
    )


def functional(head, shape=(FEATURES,)):
    def build():
        inputs = keras.Input(shape)
        return keras.Model(inputs, head(hidden_layer()(inputs)))

    return build


def dense(activation=None, **arguments):
    return lambda: layers.Dense(CLASSES, activation, **arguments)


def softmax_of_backend():
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        return tensorflow.nn.softmax
    if backend == "jax":
        import jax

        return jax.nn.softmax
    import torch

    return torch.nn.Softmax(dim=-1)


def mixed(policy):
    """Half precision within, float32 at the end: the usual recipe for mixed precision."""

    def build():
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(7, "tanh", dtype=policy),
                layers.Dense(CLASSES, dtype=policy),
                layers.Activation("softmax", dtype="float32"),
            ]
        )

    return build


def sequential_in_functional(softmax=True):
    inputs = keras.Input((FEATURES,))
    inner = models.sequential(softmax=softmax)
    return keras.Model(inputs, inner(inputs))


def functional_in_sequential(softmax=True):
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Identity(), models.functional(softmax=softmax)]
    )


def softmax(x):
    """Called softmax, and is not."""
    return keras.ops.sigmoid(x)


def two_levels(softmax=True):
    inputs = keras.Input((FEATURES,))
    inner = functional_in_sequential(softmax=softmax)
    middle = keras.Model(inputs, layers.Dropout(0.5)(inner(inputs)))
    return keras.Sequential([keras.Input((FEATURES,)), middle, layers.Identity()])


def softmax_outside(softmax=True):
    """The nested model ends in logits; the outer one does what it does with them."""
    inputs = keras.Input((FEATURES,))
    outputs = models.functional()(inputs)
    return keras.Model(inputs, layers.Softmax()(outputs) if softmax else outputs)


def list_inputs(softmax=True, nested=True):
    two = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    inside = hidden_layer()(two[0] + 2.0 * two[1])
    inner = keras.Model(two, layers.Dense(CLASSES, "softmax" if softmax else None)(inside))
    if not nested:
        return inner
    outer = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    # Swapped on purpose: the view must keep the order of the call.
    return keras.Model(outer, inner([outer[1], outer[0]]))


def dict_inputs(softmax=True, nested=True):
    named = {name: keras.Input((FEATURES,), name=name) for name in ("left", "right")}
    inside = hidden_layer()(named["left"] + 2.0 * named["right"])
    inner = keras.Model(named, layers.Dense(CLASSES, "softmax" if softmax else None)(inside))
    if not nested:
        return inner
    outer = {name: keras.Input((FEATURES,), name=name) for name in ("left", "right")}
    return keras.Model(outer, inner({"right": outer["right"], "left": outer["left"]}))


def called_twice(softmax=True):
    """The first call of the head is the model's, the second one is not."""
    inputs = keras.Input((FEATURES,))
    first, head = hidden_layer(), layers.Dense(CLASSES, "softmax" if softmax else None)
    model = keras.Model(inputs, head(first(inputs)))
    head(first(keras.Input((FEATURES,))))
    return model


SOFTMAX = {
    "sequential": Case(sequential(dense("softmax"))),
    "functional": Case(functional(lambda h: dense("softmax")()(h))),
    "function_of_backend": Case(sequential(lambda: dense(softmax_of_backend())())),
    "partial": Case(sequential(dense(functools.partial(keras.activations.softmax, axis=-1)))),
    "lambda_activation": Case(sequential(dense(lambda x: keras.ops.softmax(x)))),
    "softmax_layer_as_activation": Case(sequential(lambda: dense(layers.Softmax())())),
    "softmax_layer": Case(sequential(dense(), layers.Softmax)),
    "softmax_layer_axis_1": Case(sequential(dense(), lambda: layers.Softmax(axis=1))),
    "activation_layer": Case(sequential(dense(), lambda: layers.Activation("softmax"))),
    "float32_after_float16": Case(mixed("mixed_float16"), tolerance=2e-3),
    "float32_after_bfloat16": Case(mixed("mixed_bfloat16"), tolerance=2e-2),
    "ops_softmax": Case(functional(lambda h: keras.ops.softmax(dense()()(h)))),
    "activations_softmax": Case(functional(lambda h: keras.activations.softmax(dense()()(h)))),
    "log_softmax": Case(sequential(dense("log_softmax")), ending="log_softmax"),
    "log_softmax_layer": Case(
        sequential(dense(), lambda: layers.Activation("log_softmax")), ending="log_softmax"
    ),
    "ops_log_softmax": Case(
        functional(lambda h: keras.ops.log_softmax(dense()()(h))), ending="log_softmax"
    ),
    "einsum_dense": Case(
        sequential(
            lambda: layers.EinsumDense("ab,bc->ac", CLASSES, activation="softmax", bias_axes="c")
        )
    ),
    "conv_1x1": Case(
        sequential(lambda: layers.Conv2D(CLASSES, 1, activation="softmax"), shape=models.IMAGE),
        feed=images,
    ),
    "time_distributed": Case(
        sequential(lambda: layers.TimeDistributed(dense("softmax")()), shape=(STEPS, FEATURES)),
        feed=series,
    ),
    "time_distributed_softmax": Case(
        sequential(
            dense(),
            lambda: layers.TimeDistributed(layers.Activation("softmax")),
            shape=(STEPS, FEATURES),
        ),
        feed=series,
    ),
    "then_dropout": Case(sequential(dense("softmax"), lambda: layers.Dropout(0.5))),
    "then_identity": Case(sequential(dense(), layers.Softmax, layers.Identity)),
    "then_linear": Case(
        sequential(dense("softmax"), lambda: layers.Activation("linear"), layers.Identity)
    ),
    "then_float32": Case(
        sequential(
            dense("softmax", dtype="mixed_bfloat16"),
            lambda: layers.Activation("linear", dtype="float32"),
        ),
        tolerance=2e-2,
        output_tolerance=2e-2,
    ),
    "sequential_in_functional": Case(sequential_in_functional),
    "functional_in_sequential": Case(functional_in_sequential),
    "two_levels": Case(two_levels),
    "softmax_outside": Case(softmax_outside),
    "list_inputs": Case(functools.partial(list_inputs, nested=False), sum_mlp, pair_of_vectors),
    "dict_inputs": Case(functools.partial(dict_inputs, nested=False), named_sum_mlp, named_vectors),
    "nested_list_inputs": Case(list_inputs, swapped_sum_mlp, pair_of_vectors),
    "nested_dict_inputs": Case(dict_inputs, named_sum_mlp, named_vectors),
    "called_twice": Case(called_twice),
}


def _joined(head, axis):
    """Two heads with weights of their own, put together."""

    def build(h):
        return layers.Concatenate(axis=axis)([head(h), head(h)])

    return build


def _joined_logits(axis):
    def logits(weights, x):
        return np.concatenate([mlp(weights[:4], x), mlp(weights[:2] + weights[4:], x)], axis)

    return logits


def _units(number, activation="sigmoid"):
    return lambda: layers.Dense(number, activation)


def _conv(activation):
    return lambda: layers.Conv2D(CLASSES, 1, activation=activation)


def _then(change):
    """Logits that are moved as the model moves its probabilities."""
    return lambda weights, x: change(mlp(weights, x))


SIGMOID = {
    "one_unit": Case(sequential(_units(1))),
    "units": Case(sequential(_units(CLASSES))),
    "functional": Case(functional(lambda h: _units(CLASSES)()(h))),
    "activation_layer": Case(sequential(dense(), lambda: layers.Activation("sigmoid"))),
    "ops": Case(functional(lambda h: keras.ops.sigmoid(dense()()(h)))),
    "lambda": Case(sequential(dense(lambda x: 1 / (1 + keras.ops.exp(-x))))),
    "softmax_by_name_only": Case(sequential(dense(softmax))),
    "log": Case(sequential(dense("log_sigmoid")), ending="log_sigmoid"),
    "ops_log": Case(
        functional(lambda h: keras.ops.log_sigmoid(dense()()(h))), ending="log_sigmoid"
    ),
    "time_distributed": Case(
        sequential(lambda: layers.TimeDistributed(_units(2)()), shape=(STEPS, FEATURES)),
        feed=series,
    ),
    "nested": Case(
        lambda: keras.Sequential(
            [keras.Input((FEATURES,)), sequential(_units(2))(), layers.Identity()]
        )
    ),
    "then_float16": Case(
        functional(lambda h: keras.ops.cast(_units(2)()(h), "float16")), output_tolerance=1e-3
    ),
    "then_flatten": Case(
        sequential(_conv("sigmoid"), layers.Flatten, shape=models.IMAGE),
        _then(lambda logits: logits.reshape(len(logits), -1)),
        images,
    ),
    "then_squeeze": Case(
        functional(lambda h: keras.ops.squeeze(_units(1)()(h), axis=-1)),
        _then(lambda logits: logits[:, 0]),
    ),
    "joined_heads": Case(functional(_joined(lambda h: _units(1)()(h), -1)), _joined_logits(-1)),
}
SIGMOID = {
    name: case if case.ending != "softmax" else dataclasses.replace(case, ending="sigmoid")
    for name, case in SIGMOID.items()
}

# Softmax, then something that only moves its probabilities to other places.
MOVED = {
    "reshape": Case(
        sequential(_conv("softmax"), lambda: layers.Reshape((-1, CLASSES)), shape=models.IMAGE),
        _then(lambda logits: logits.reshape(len(logits), -1, CLASSES)),
        images,
    ),
    "flatten": Case(
        sequential(
            lambda: layers.Reshape((1, 1, 7)), _conv("softmax"), layers.Flatten, shape=(FEATURES,)
        )
    ),
    "permute": Case(
        sequential(_conv("softmax"), lambda: layers.Permute((2, 1, 3)), shape=models.IMAGE),
        _then(lambda logits: logits.transpose(0, 2, 1, 3)),
        images,
    ),
    "transpose": Case(
        functional(
            lambda h: keras.ops.transpose(_conv("softmax")()(h), (0, 2, 1, 3)), models.IMAGE
        ),
        _then(lambda logits: logits.transpose(0, 2, 1, 3)),
        images,
    ),
    "ops_reshape": Case(
        functional(
            lambda h: keras.ops.reshape(_conv("softmax")()(h), (-1, 16, CLASSES)), models.IMAGE
        ),
        _then(lambda logits: logits.reshape(len(logits), -1, CLASSES)),
        images,
    ),
    "crop": Case(
        sequential(_conv("softmax"), lambda: layers.Cropping2D(1), shape=models.IMAGE),
        _then(lambda logits: logits[:, 1:-1, 1:-1]),
        images,
    ),
    "upsample": Case(
        sequential(_conv("softmax"), lambda: layers.UpSampling2D(2), shape=models.IMAGE),
        _then(lambda logits: logits.repeat(2, axis=1).repeat(2, axis=2)),
        images,
    ),
    "cast": Case(
        functional(lambda h: keras.ops.cast(_units(CLASSES, "softmax")()(h), "float16")),
        output_tolerance=1e-3,
    ),
    "joined_tokens": Case(
        functional(_joined(lambda h: _units(CLASSES, "softmax")()(h), 1), (STEPS, FEATURES)),
        _joined_logits(1),
        series,
    ),
    "nested": Case(
        lambda: keras.Sequential(
            [
                keras.Input(models.IMAGE),
                sequential(_conv("softmax"), shape=models.IMAGE)(),
                layers.Reshape((-1, CLASSES)),
            ]
        ),
        _then(lambda logits: logits.reshape(len(logits), -1, CLASSES)),
        images,
    ),
}

READ = {
    f"{group}_{name}": case
    for group, cases in (("softmax", SOFTMAX), ("sigmoid", SIGMOID), ("moved", MOVED))
    for name, case in cases.items()
}


LOGITS = {
    "sequential": sequential(dense()),
    "functional": functional(lambda h: dense()()(h)),
    "linear_by_name": sequential(dense("linear")),
    "activation_layer": sequential(dense(), lambda: layers.Activation("linear", dtype="float32")),
    "conv_1x1": sequential(lambda: layers.Conv2D(CLASSES, 1), shape=models.IMAGE),
    "time_distributed": sequential(
        lambda: layers.TimeDistributed(dense()()), shape=(STEPS, FEATURES)
    ),
    "then_dropout": sequential(dense(), lambda: layers.Dropout(0.5), layers.Identity),
    "sequential_in_functional": lambda: sequential_in_functional(softmax=False),
    "functional_in_sequential": lambda: functional_in_sequential(softmax=False),
    "two_levels": lambda: two_levels(softmax=False),
    "softmax_inside_only": sequential(lambda: layers.Dense(4, "softmax"), dense()),
    "nested_list_inputs": lambda: list_inputs(softmax=False),
    "nested_dict_inputs": lambda: dict_inputs(softmax=False),
    "called_twice": lambda: called_twice(softmax=False),
    "pooled": sequential(dense(), layers.GlobalAveragePooling1D, shape=(STEPS, FEATURES)),
    "pooled_images": sequential(_conv(None), layers.GlobalAveragePooling2D, shape=models.IMAGE),
    "reshaped": sequential(_conv(None), lambda: layers.Reshape((-1, CLASSES)), shape=models.IMAGE),
    "flattened": sequential(
        lambda: layers.Reshape((1, 1, 7)), _conv(None), layers.Flatten, shape=(FEATURES,)
    ),
    "cropped": sequential(_conv(None), lambda: layers.Cropping2D(1), shape=models.IMAGE),
    "upsampled": sequential(
        _conv(None), lambda: layers.UpSampling2D(2, interpolation="bilinear"), shape=models.IMAGE
    ),
    "resized": functional(lambda h: keras.ops.image.resize(_conv(None)()(h), (8, 8)), models.IMAGE),
    "added": functional(lambda h: layers.Add()([dense()()(h), dense()()(h)])),
    "added_by_operator": functional(lambda h: dense()()(h) + dense()()(h)),
    "averaged": functional(lambda h: layers.Average()([dense()()(h), dense()()(h)])),
    "joined": functional(_joined(lambda h: dense()()(h), -1)),
    "cast": functional(lambda h: keras.ops.cast(dense()()(h), "float16")),
    "mean_of_tokens": functional(lambda h: keras.ops.mean(dense()()(h), axis=1), (STEPS, FEATURES)),
    "first_token": functional(lambda h: dense()()(h)[:, 0], (STEPS, FEATURES)),
}


def numpy(tensors):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tensors)


def run(view, x):
    """Logits of a view, and what it says that the user's model would return."""
    said = view(x, training=False)
    return numpy(said.logits), numpy(view.predictions(said))


def state_of(model):
    """All that a view could disturb, at any depth."""
    try:
        config = keras.saving.serialize_keras_object(model)
    except (TypeError, UserWarning):  # A partial or a lambda; Keras does not know how.
        config = None
    return {
        "config": config,
        "layers": [
            (
                id(layer),
                layer.name,
                id(getattr(layer, "activation", None)),
                layer.activity_regularizer,
                layer.trainable,
                len(layer._inbound_nodes),
                len(layer._outbound_nodes),
                len(layer.weights),
            )
            for layer in model._flatten_layers()
        ],
    }
