"""Keras made pure: the model, the optimizer, what their steps do."""
