"""A causal language model of KerasHub, of random weights, teaches a smaller one from a cache."""

import caches
import keras
import numpy as np
import pytest
from models import log_softmax

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD

VOCABULARY, TOKENS = 32_000, 6
keras_hub = pytest.importorskip("keras_hub")


def language_model(width, vocabulary=VOCABULARY):
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=vocabulary,
        num_layers=1,
        num_heads=2,
        hidden_dim=width,
        intermediate_dim=width,
        max_sequence_length=TOKENS,
    )
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)


def test_live_and_cached_with_the_largest_logits(tmp_path, rng):
    ids = rng.integers(1, VOCABULARY, (4, TOKENS + 1)).astype("int32")
    mask = np.arange(TOKENS) < np.array([6, 3, 6, 2])[:, None]
    x = {"token_ids": ids[:, :-1], "padding_mask": mask.astype("int32")}
    y, weights = ids[:, 1:], mask.astype("float32")
    keras.utils.set_random_seed(0)
    # Its vocabulary is padded beyond the student's.
    teacher, student = language_model(8, VOCABULARY + 64), language_model(4)
    options = {"top_k": 64, "batch_size": 4, "from_logits": True, "verbose": 0}
    wide = keras_ats.cache_teacher(teacher, (x, y), tmp_path / "all", **options)
    distiller = keras_ats.Distiller(wide, student, student_from_logits=True)
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2))
    with pytest.raises(ValueError, match=r"32000 classes.*teacher with 32064.*classes=32000"):
        distiller.fit(*wide.attach((x, y)), verbose=0)
    cache = keras_ats.cache_teacher(
        teacher, (x, y), tmp_path / "cut", classes=VOCABULARY, **options
    )
    # 65 logits of 32,000: their ids take two bytes each.
    assert cache.bytes == 128 + 4 * TOKENS * (4 + 65 * (2 + 2) + 8 * 4 + 4 + 4)
    loss = AsymmetricTemperatureKD(4, 2)
    said = keras.ops.convert_to_numpy(teacher(x))[..., :VOCABULARY]
    kept = cache.rows(0, np.arange(4))["logits"]["ids"]
    temperatures = np.where(np.arange(VOCABULARY) == y[..., None], 4.0, 2.0)
    target = caches.joined(log_softmax(said, temperatures), kept)
    logs = caches.joined(log_softmax(keras.ops.convert_to_numpy(student(x))), kept)
    live = -(np.exp(target) * logs).sum(axis=-1)
    distiller = keras_ats.Distiller(cache, student, student_from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), kd_loss=loss)
    batch, labels = cache.attach((x, y))
    logs = distiller.fit(
        batch, labels, sample_weight=weights, batch_size=4, epochs=2, shuffle=False, verbose=0
    ).history
    # As for all of Keras's losses padding counts in the number of positions, and with weight 0.
    np.testing.assert_allclose(logs["kd_loss"][0], (live * weights).mean(), rtol=1e-3)
    assert logs["loss"][1] < logs["loss"][0]
