"""LeCun's convolutional net, with rectifiers, for small grey images."""

import keras


def lenet(shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Returns LeNet-5 (LeCun et al. 1998) with ReLU and max pooling.

    Args:
        shape: `(height, width, channels)` of the images; below 16 pixels of
            height the second convolution pads, too.
        classes: int, the number of outputs, which are logits.
    """
    L = keras.layers
    second = "same" if shape[0] < 16 else "valid"
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(6, 5, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(16, 5, padding=second, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(120, activation="relu"),
            L.Dense(84, activation="relu"),
            L.Dense(classes),
        ]
    )
