"""Groups of layers for images and volumes, and for pixels of images."""

from keras import layers as L

from conformance.layer_group import Group


class Within(L.Layer):
    """Calls a layer inside its own call.

    Keras cannot put some layers into a functional model by themselves.
    """

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x, training=False):
        return self.layer(x, training=training)


IMAGES = Group(
    (5, 5, 2),
    {
        "AdaptiveAveragePooling2D": lambda: L.AdaptiveAveragePooling2D(2),
        "AdaptiveMaxPooling2D": lambda: L.AdaptiveMaxPooling2D(2),
        "AveragePooling2D": lambda: L.AveragePooling2D(2),
        "CenterCrop": lambda: L.CenterCrop(3, 3),
        "Conv2D": lambda: L.Conv2D(2, 2, dilation_rate=2),
        "Conv2DTranspose": lambda: L.Conv2DTranspose(2, 2, strides=2),
        "Cropping2D": lambda: L.Cropping2D(1),
        "DepthwiseConv2D": lambda: L.DepthwiseConv2D(2),
        "GlobalAveragePooling2D": lambda: L.GlobalAveragePooling2D(),
        "GlobalMaxPooling2D": lambda: L.GlobalMaxPooling2D(),
        "MaxPooling2D": lambda: L.MaxPooling2D(2, 1, "same"),
        "Pipeline": lambda: L.Pipeline([L.RandomFlip(), L.CenterCrop(3, 3)]),
        "SeparableConv2D": lambda: L.SeparableConv2D(2, 2),
        "SpatialDropout2D": lambda: L.SpatialDropout2D(0.3),
        "ZeroPadding2D": lambda: L.ZeroPadding2D(2),
    },
)
RESIZED = IMAGES._replace(
    makes={
        "Resizing": lambda: L.Resizing(3, 3),
        "UpSampling2D": lambda: L.UpSampling2D(2, interpolation="bilinear"),
    },
    rtol=1e-2,  # TensorFlow gives float32, whatever comes in
)
VOLUMES = Group(
    (3, 3, 3, 2),
    {
        "Conv3D": lambda: L.Conv3D(2, 2),
        "Conv3DTranspose": lambda: L.Conv3DTranspose(2, 2),
        "Cropping3D": lambda: L.Cropping3D(1),
        "GlobalAveragePooling3D": lambda: L.GlobalAveragePooling3D(),
        "GlobalMaxPooling3D": lambda: L.GlobalMaxPooling3D(),
        "SpatialDropout3D": lambda: L.SpatialDropout3D(0.3),
        "UpSampling3D": lambda: L.UpSampling3D(2),
        "ZeroPadding3D": lambda: L.ZeroPadding3D(2),
    },
)
IN_FLOAT32 = Group(
    (4, 4, 4, 2),
    {
        "AdaptiveMaxPooling3D": lambda: L.AdaptiveMaxPooling3D(2),
        "MaxPooling3D": lambda: L.MaxPooling3D(2, 1, "same"),
        "MelSpectrogram": lambda: (
            lambda x: L.MelSpectrogram(
                16,
                16,
                16,
                num_mel_bins=3,
                sampling_rate=8000,
                min_freq=0,
                max_freq=4000,
            )(L.Reshape((128,))(x))
        ),
        "STFTSpectrogram": lambda: (
            lambda x: L.STFTSpectrogram("log", 4, 2, 4)(L.Reshape((128, 1))(x))
        ),
    },
    dtype="float32",
)
AVERAGES_IN_FLOAT32 = IN_FLOAT32._replace(
    makes={
        "AdaptiveAveragePooling3D": lambda: L.AdaptiveAveragePooling3D(2),
        "AveragePooling3D": lambda: L.AveragePooling3D(2),
    }
)
PIXELS = Group(
    (5, 5, 3),
    {
        "AutoContrast": lambda: L.AutoContrast(value_range=(0, 255)),
        "ContrastLimitedAdaptiveHistogramEqualization": lambda: (
            L.ContrastLimitedAdaptiveHistogramEqualization(value_range=(0, 255))
        ),
        "CutMix": lambda: L.CutMix(),
        "Equalization": lambda: Within(L.Equalization()),
        "MaxNumBoundingBoxes": lambda: L.MaxNumBoundingBoxes(3),
        "MixUp": lambda: L.MixUp(),
        "RandomBrightness": lambda: L.RandomBrightness(0.3),
        "RandomColorDegeneration": lambda: L.RandomColorDegeneration(0.3),
        "RandomColorJitter": lambda: L.RandomColorJitter(
            brightness_factor=0.3, hue_factor=0.2
        ),
        "RandomContrast": lambda: L.RandomContrast(0.3),
        "RandomErasing": lambda: L.RandomErasing(),
        "RandomFlip": lambda: L.RandomFlip(),
        "RandomGaussianBlur": lambda: L.RandomGaussianBlur(0.9, 3),
        "RandomGrayscale": lambda: Within(L.RandomGrayscale()),
        "RandomHue": lambda: L.RandomHue(0.3),
        "RandomInvert": lambda: L.RandomInvert(),
        "RandomPosterization": lambda: L.RandomPosterization(4),
        "RandomSaturation": lambda: L.RandomSaturation(0.3),
        "RandomSharpness": lambda: L.RandomSharpness(0.3),
        "Solarization": lambda: L.Solarization(0.5, 0.5),
    },
    is_first=True,
    scale=1 / 127,
)
MOVED_PIXELS = Group(
    (5, 5, 3),
    {
        "RandAugment": lambda: Within(L.RandAugment()),
        "RandomCrop": lambda: (
            lambda x: L.GlobalAveragePooling2D()(L.RandomCrop(3, 3)(x))
        ),
        "RandomElasticTransform": lambda: L.RandomElasticTransform(),
        "RandomPerspective": lambda: L.RandomPerspective(),
        "RandomRotation": lambda: L.RandomRotation(0.3),
        "RandomShear": lambda: L.RandomShear(0.3, 0.3),
        "RandomTranslation": lambda: L.RandomTranslation(0.3, 0.3),
        "RandomZoom": lambda: L.RandomZoom(0.3),
    },
    is_first=True,
    scale=1 / 127,
    dtype="float32",
    note="before all weights that are trained; behind them it is refused",
)
