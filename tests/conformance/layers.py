"""The table of layers."""

from keras import layers as L

from conformance import HELPERS, OWN, NotApplicable, Refused, Right, Row
from conformance.layer_group import check
from conformance.layers_for_images import (
    AVERAGES_IN_FLOAT32,
    IMAGES,
    IN_FLOAT32,
    MOVED_PIXELS,
    PIXELS,
    RESIZED,
    VOLUMES,
    Within,
)
from conformance.layers_plain import (
    CONVOLUTIONAL_RECURRENT,
    MERGING,
    RECURRENT,
    SEQUENCES,
    TOKENS,
    VECTORS,
)

GROUPS = {
    "vectors": VECTORS,
    "merging": MERGING,
    "sequences": SEQUENCES,
    "recurrent": RECURRENT,
    "convolutional recurrent": CONVOLUTIONAL_RECURRENT,
    "images": IMAGES,
    "resized images": RESIZED,
    "volumes": VOLUMES,
    "float32": IN_FLOAT32,
    "averages in float32": AVERAGES_IN_FLOAT32,
    "tokens": TOKENS,
    "pixels": PIXELS,
    "moved pixels": MOVED_PIXELS,
}


NOTES = {
    # These two have derivatives, unlike others that move pixels.
    "RandomCrop": "",
    "RandomElasticTransform": "",
    "TFSMLayer": "with `trainable=False`; otherwise it is refused",
}
ELSEWHERE = "Needs another backend, or a package that Keras does not bring."
LAYERS: dict[str, Row] = (
    {
        name: Right((group, name), NOTES.get(name, group.note))
        for group in GROUPS.values()
        for name in group.makes
    }
    | {
        "AugMix": Refused(
            (PIXELS, lambda: Within(L.AugMix())),
            "draws random numbers of its own",
            "Python chooses its operations, once for a whole training, when "
            "the step is compiled. Use it in the input pipeline.",
        ),
        "SpectralNormalization": Refused(
            (VECTORS, lambda: L.SpectralNormalization(L.Dense(3))),
            "The derivative of",
            "It assigns its kernel in a branch, and holds constant what it "
            "divides by: hypergradients would be wrong by some per cent.",
        ),
        "FlaxLayer": NotApplicable(ELSEWHERE),
        "JaxLayer": NotApplicable(ELSEWHERE),
        "TorchModuleWrapper": NotApplicable(ELSEWHERE),
        "Input": NotApplicable("Where every model begins."),
        "InputLayer": NotApplicable("Where every model begins."),
        "InputSpec": NotApplicable("Describes what a layer takes."),
        "Layer": NotApplicable(OWN),
        "Wrapper": NotApplicable(OWN),
    }
    | {name: row for name, row in HELPERS.items() if name != "get"}
)


def check_refused(row: Refused) -> None:
    """Runs the layer that a row refuses, alone."""
    group, make = row.make
    check(group._replace(makes={"": make}), [""])
