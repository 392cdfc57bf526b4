"""What a language model costs that learns from a larger one, live and from a cache of `top_k`.

    KERAS_BACKEND=torch python benchmarks/tokens.py [--rounds 8] [--output]

Causal language models of KerasHub from explicit arguments, of random weights: the teacher four
layers of 256, the student one of 64, with 32,000 tokens each; the teacher's vocabulary is padded by
64 more, which are cut off. Four sequences of 32 tokens, padded to that length from 16 on. A step is
one `fit` of one batch, ATS; memory is the peak of a step beyond what the process holds before it.
"""

import tempfile

import harness
import keras
import keras_hub
import numpy as np

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD

VOCABULARY, PADDED, TOKENS, SEQUENCES, TOP_K = 32_000, 64, 32, 4, 64


def main() -> None:
    """Measures steps and memory of a plain student, a live and a cached teacher."""
    arguments = harness.parse_arguments(__doc__)
    keras.utils.set_random_seed(0)
    x, y, weights = tokens()
    wide = language_model(4, 256, VOCABULARY + PADDED)
    # The live teacher is cut where the cache cuts: behind the student's last token.
    teacher = keras.Model(wide.input, wide.output[..., :VOCABULARY])
    with tempfile.TemporaryDirectory() as folder:
        cache = keras_ats.cache_teacher(
            wide,
            (x, y),
            f"{folder}/cache",
            top_k=TOP_K,
            classes=VOCABULARY,
            from_logits=True,
            batch_size=SEQUENCES,
            verbose=0,
        )
        riding, _ = cache.attach((x, y))
        plain = language_model(1, 64)
        plain.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[],
        )
        contestants = {
            "student step": step(plain, x, y, weights),
            "cached step": step(distiller(cache), riding, y, weights),
            "live step": step(distiller(teacher), x, y, weights),
        }
        memory = {name: round(harness.peak_mib(run), 1) for name, run in contestants.items()}
        found = harness.report(
            harness.measure(contestants, arguments),
            {
                "cached step / student step": ("cached step", "student step"),
                "live step / cached step": ("live step", "cached step"),
            },
            "milliseconds per batch",
            peak_mib=memory,
            mib_of_the_logits=round(4 * SEQUENCES * TOKENS * VOCABULARY / 2**20, 1),
            bytes_of_a_token=cache.bytes / (SEQUENCES * TOKENS),
            sequences=SEQUENCES,
            tokens=TOKENS,
            vocabulary=VOCABULARY,
            top_k=TOP_K,
        )
        harness.publish(found, f"tokens_{keras.backend.backend()}", arguments)


def tokens() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Random tokens and those that follow them; weights are 0 where there is padding."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, VOCABULARY, (SEQUENCES, TOKENS + 1)).astype("int32")
    lengths = rng.integers(TOKENS // 2, TOKENS + 1, SEQUENCES)
    mask = np.arange(TOKENS) < lengths[:, None]
    x = {"token_ids": ids[:, :-1], "padding_mask": mask.astype("int32")}
    return x, ids[:, 1:], mask.astype("float32")


def language_model(layers: int, width: int, vocabulary: int = VOCABULARY) -> keras.Model:
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=vocabulary,
        num_layers=layers,
        num_heads=2,
        hidden_dim=width,
        intermediate_dim=2 * width,
        max_sequence_length=TOKENS,
    )
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)


def distiller(teacher: object) -> keras_ats.Distiller:
    is_live = isinstance(teacher, keras.Model)
    made = keras_ats.Distiller(
        teacher,
        language_model(1, 64),
        teacher_from_logits=True if is_live else None,
        student_from_logits=True,
    )
    made.compile(keras.optimizers.SGD(0.1), kd_loss=AsymmetricTemperatureKD(4, 2))
    return made


def step(model: keras.Model, x: object, y: np.ndarray, weights: np.ndarray) -> harness.Contestant:
    return lambda: model.fit(
        x, y, sample_weight=weights, batch_size=SEQUENCES, shuffle=False, verbose=0
    )


if __name__ == "__main__":
    main()
