"""Where the teacher is wrong, exchange its top class and the label: probability shift."""

import keras
from keras import ops

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.ops.labels import label_indicator, top_class_indicator
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Swap(Adjustment):
    r"""Logits Adjustment by swapping: the label gets the teacher's largest logit, and back.

    A wrong teacher is corrected without losing how sure it was or how it ranks the other classes.
    Where the teacher's top class is the label nothing changes. Swapping logits swaps the
    probabilities of any single temperature. Under ATS the label is the top class afterwards, and
    the correct-class temperature acts on the logit swapped in.

    Of several equal largest logits the first counts as the top class. The label of a soft row is
    its largest entry. A position with an ignored label (an id out of range) stays as it is.

    Example:

    ```python
    keras_ats.adjustments.Swap().adjust_logits(np.array([[5.0, 1.0, 0.0]]), [2])  # [[0, 1, 5]]
    ```

    Reference: Wen, Lai, Qian, "Preparing Lessons: Improve Knowledge Distillation with Better
    Supervision", Neurocomputing 454, 2021, arXiv 1911.07471; agrees with the public code of
    TextBrewer and of RLD.
    """

    def adjust_logits(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the logits with top class and label exchanged, shape `(..., C)`."""
        label = label_indicator(labels, teacher_logits)
        top = top_class_indicator(teacher_logits)
        label_logit = ops.sum(ops.where(label, teacher_logits, 0.0), axis=-1, keepdims=True)
        top_logit = ops.max(teacher_logits, axis=-1, keepdims=True)
        swapped = ops.where(label, top_logit, ops.where(top, label_logit, teacher_logits))
        labelled = ops.any(label, axis=-1, keepdims=True)
        return ops.where(labelled, swapped, teacher_logits)
