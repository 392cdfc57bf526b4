"""Teachers that are no Keras models, in a Keras model of the user's that says what it returns."""

import keras
import models
import numpy as np
import pytest
from keras import layers

import keras_ats

BACKEND = keras.backend.backend()


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Foreign(keras.Model):
    """Calls a layer that runs something else."""

    returns_logits = True

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        outputs = self.layer(inputs)
        return outputs["output_0"] if isinstance(outputs, dict) else outputs


def _torch_module(kernel, tmp_path):
    import torch

    module = torch.nn.Linear(*kernel.shape, bias=False)
    module.weight.data = torch.tensor(kernel.T)
    return layers.TorchModuleWrapper(module, output_shape=(None, kernel.shape[1]))


def _saved_model(kernel, tmp_path):
    model = keras.Sequential(
        [keras.Input((len(kernel),)), layers.Dense(kernel.shape[1], use_bias=False)]
    )
    model.set_weights([kernel])
    model.export(tmp_path / "saved", verbose=False)
    return layers.TFSMLayer(tmp_path / "saved", call_endpoint="serve")


def _jax_function(kernel, tmp_path):
    return layers.JaxLayer(lambda params, inputs: inputs @ params, params=kernel)


MAKERS = {"torch": _torch_module, "tensorflow": _saved_model, "jax": _jax_function}


@pytest.mark.parametrize("place", ["subclass", "graph"])
def test_a_teacher_of_another_library(place, rng, tmp_path):
    x, _ = models.features(rng)
    kernel = rng.normal(size=(models.FEATURES, models.CLASSES)).astype("float32")
    layer = MAKERS[BACKEND](kernel, tmp_path)
    if place == "subclass":
        teacher = Foreign(layer)
        teacher(x)
        said = None
    else:
        inputs = keras.Input((models.FEATURES,))
        outputs = layer(inputs)
        teacher = keras.Model(inputs, outputs)
        said = True
        with pytest.raises(ValueError, match=rf"{type(layer).__name__}.*teacher_from_logits=True"):
            keras_ats.Distiller(teacher, models.linear())
    student = models.linear()
    distiller = keras_ats.Distiller(teacher, student, teacher_from_logits=said)
    distiller.compile("sgd", None, kd_loss=keras_ats.losses.TemperatureKD(2.0))
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    expected = models.kd(models.outputs(student, x), x @ kernel, 2.0).mean()
    assert logs["kd_loss"] == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(distiller.train_on_batch(x)).all()
