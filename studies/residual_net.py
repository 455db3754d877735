"""A residual net for small images."""

import keras


def residual_net(
    shape: tuple[int, int, int], classes: int, blocks: int, channels: int
) -> keras.Model:
    """Returns a ResNet of three stages for small images (He et al. 2016).

    6 * blocks + 2 layers with kernels, and a 1x1 convolution where a stage
    begins with a stride.

    Args:
        shape: `(height, width, channels)` of the images.
        classes: int, the number of outputs, which are logits.
        blocks: int, residual blocks in each stage.
        channels: int, of the first stage; each other has twice as many.
    """
    L = keras.layers

    def convolution(x, filters, size, strides, name):
        x = L.Conv2D(filters, size, strides, "same", use_bias=False, name=name)(
            x
        )
        return L.BatchNormalization(name=f"{name}_norm")(x)

    x = inputs = keras.Input(shape)
    x = L.ReLU()(convolution(x, channels, 3, 1, "first"))
    for stage in range(3):
        filters = channels * 2**stage
        for block in range(blocks):
            name = f"stage{stage}_block{block}"
            strides = 2 if stage and not block else 1
            y = convolution(x, filters, 3, strides, f"{name}_a")
            y = convolution(L.ReLU()(y), filters, 3, 1, f"{name}_b")
            if strides > 1:
                x = convolution(x, filters, 1, strides, f"{name}_skip")
            x = L.ReLU()(L.Add()([x, y]))
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(classes, name="last")(x))
