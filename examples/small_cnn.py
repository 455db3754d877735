"""A small convolutional net."""

import keras


def small_cnn(shape: tuple[int, ...], classes: int) -> list[keras.Layer]:
    """Returns the layers of a net that takes images in [0, 1], logits last.

    Args:
        shape: `(height, width, channels)` of the images; a third convolution
            from 16 pixels of height on.
        classes: int.
    """
    L = keras.layers
    rectified = {"activation": "relu", "kernel_initializer": "he_normal"}
    return [
        L.Rescaling(4, -2),  # from [0, 1] to about unit size
        *(
            L.Conv2D(filters, 3, 2, "same", **rectified)
            for filters in ((16, 32) if shape[0] < 16 else (16, 32, 64))
        ),
        L.Flatten(),
        L.Dense(classes),
    ]
