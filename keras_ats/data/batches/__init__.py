"""Batches: `tf.data` pipelines of arrays in memory, whose epochs can be made again."""
