"""A plain model of logits."""

import keras

from keras_ats.views.keras_model import as_keras_model
from keras_ats.views.read import FromLogits
from keras_ats.views.view import View


def at_logits(model: keras.Model, from_logits: FromLogits = None) -> keras.Model:
    """Returns a model that returns logits where `model` makes probabilities of them.

    It shares all weights with `model`, which stays as it is: trained further, quantised or given
    LoRA, both have it. Use it to look at logits, to calibrate them or to export them. `Distiller`
    does this by itself.

    Args:
        model: A built Sequential or Functional model that ends in a linear layer, softmax or
            sigmoid, at each of its outputs.
        from_logits: True for an output that returns logits where the graph does not tell, by name
            if there are several; it is left as it is. Defaults to None.

    Returns:
        A `keras.Model` with the same inputs; `model` itself if it returns logits. Its file needs
        keras_ats to be loaded.

    Raises:
        TypeError: If `model` is no keras.Model.
        ValueError: If the logits cannot be read.

    Example:

    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    logits = keras_ats.views.at_logits(model).predict(np.random.rand(4, 8), verbose=0)
    ```
    """
    as_keras_model(model, "`model`", "a built Sequential or Functional model")
    view = View(model, from_logits, "model")
    view.require(view.output_names)
    said = [name for name, ending in view.endings.items() if ending == "probabilities"]
    if said:
        raise ValueError(
            f"The logits of the model '{model.name}' do not stand in its graph. Received: "
            f"from_logits=False for {said}. Expected: an ending that can be read. From what it "
            "returns, recover them by keras_ats.ops.centered_log_probabilities (softmax) or "
            "keras_ats.ops.bernoulli_logits (sigmoid)."
        )
    return view.model
