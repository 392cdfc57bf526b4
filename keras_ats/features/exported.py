"""A student with a projector and the teacher's classifier at its end, as one plain model."""

from typing import Any

import keras
from keras import layers

from keras_ats.ops.feature_maps import pooling_cells
from keras_ats.types import Shape
from keras_ats.views.classifier import find_classifier
from keras_ats.views.features import find_layer, output_of
from keras_ats.views.graph import graph_inputs, has_graph

_POOLING = {
    3: (layers.AveragePooling1D, layers.GlobalAveragePooling1D),
    4: (layers.AveragePooling2D, layers.GlobalAveragePooling2D),
    5: (layers.AveragePooling3D, layers.GlobalAveragePooling3D),
}


def exported_student(loss: Any, distiller: Any) -> keras.Model:
    """Returns what `ReusedClassifier.export_student` does.

    Args:
        loss: The `ReusedClassifier`, whose projector was trained.
        distiller: The `Distiller`.
    """
    teacher, student = getattr(distiller, "teacher", None), getattr(distiller, "student", None)
    if not loss.projectors or not isinstance(teacher, keras.Model) or student is None:
        raise ValueError(
            "`export_student` needs the distiller that was compiled with this loss. Received: "
            f"distiller={distiller!r}. Compile it first, with a live teacher."
        )
    classifier = find_classifier(teacher)
    (projector,), (name,) = loss.projectors, loss.student_names
    path = find_layer(student, name, "student") if has_graph(student) else ()
    if classifier is None or len(path) != 1:
        raise ValueError(
            "The student's layer must be one of its own graph, not of a nested model's, to be "
            f"exported behind it. Received: {name!r} of '{student.name}'."
        )
    tensor = output_of(student, path[0], "student")
    rank = len(tensor.shape)
    if loss.data_format_of_student == "channels_first" and rank > 2:
        tensor = layers.Permute((*range(2, rank), 1), name="reused_channels_last")(tensor)
    tensor = _pooled(tensor, loss.sizes)
    for index, (convolution, normalization) in enumerate(
        zip(projector.convolutions, projector.normalizations, strict=True)
    ):
        tensor = _copied(convolution, f"reused_projector_{index}", tensor)
        tensor = _copied(normalization, f"reused_normalization_{index}", tensor)
        tensor = layers.ReLU(name=f"reused_relu_{index}", dtype="float32")(tensor)
    if rank > 2:
        mean = _POOLING[rank][1](
            data_format="channels_last", name="reused_pooling", dtype="float32"
        )
        tensor = mean(tensor)
    outputs = _copied(classifier.layer, "reused_classifier", tensor)
    return keras.Model(graph_inputs(student), outputs, name=f"{student.name}_reused")


def _pooled(tensor: keras.KerasTensor, sizes: Shape) -> keras.KerasTensor:
    own = tuple(tensor.shape)[1:-1]
    if own == tuple(sizes):
        return tensor
    pairs: list[Any] = list(zip(own, sizes, strict=True))
    if any(None in pair for pair in pairs):
        raise ValueError(
            "The student's layer can be exported only where its sizes are known, since it is "
            f"averaged to the teacher's. Received: {own}. Expected: a student of one size of "
            "inputs."
        )
    if all(length % size == 0 for length, size in pairs):
        factors = tuple(length // size for length, size in pairs)
        pooling = _POOLING[len(own) + 2][0]
        return pooling(factors, data_format="channels_last", name="reused_sizes")(tensor)
    for axis, (length, size) in enumerate(pairs, 1):
        if length != size:
            tensor = _averaged(tensor, axis, length, size)
    return tensor


def _averaged(tensor: keras.KerasTensor, axis: int, length: int, size: int) -> keras.KerasTensor:
    """Cells that overlap, which no pooling has: a fixed linear layer along the axis."""
    count = len(tensor.shape) - 1
    last = [*(one for one in range(1, count + 1) if one != axis), axis]
    back = [last.index(one) + 1 for one in range(1, count + 1)]
    dense = layers.Dense(size, use_bias=False, trainable=False, name=f"reused_sizes_{axis}")
    averaged = dense(layers.Permute(last, name=f"reused_axis_{axis}")(tensor))
    dense.set_weights([pooling_cells(length, size).T])
    return layers.Permute(back, name=f"reused_axis_{axis}_back")(averaged)


def _copied(layer: keras.layers.Layer, name: str, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Calls a copy of a layer, with its weights."""
    copy = type(layer).from_config({**layer.get_config(), "name": name})
    outputs = copy(tensor)
    copy.set_weights(layer.get_weights())
    return outputs
