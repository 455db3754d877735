"""A Keras model around another one, which shows through it."""

import inspect
from typing import Any

import keras

from keras_drmad import arguments, keras_internals

# What trains and evaluates, which the loops do in their own way.
STEPS = ("train_step", "test_step", "make_train_function", "make_test_function")
PARTS = ("compute_loss", "compute_metrics", "get_metrics_result")
COMPILE_ARGUMENTS = (
    "optimizer",
    "loss",
    "loss_weights",
    "metrics",
    "weighted_metrics",
    "hyperparameters",
    "hypergradient",
    "meta_optimizer",
    "jit_compile",
    "self_check",
    "run_eagerly",
    "steps_per_execution",
    "auto_scale_loss",
)
EAGERLY = (
    "Training runs in compiled loops. To look into a layer, call the model on "
    "a batch: `model(x[:1])`."
)


class Wrapper(keras_internals.BuiltOfAnyParts):
    """A `keras.Model` that computes what the model inside it computes.

    By composition, not as a Functional model: Keras turns a class that once was
    called with inputs and outputs into a Functional model for good, and the
    class could not wrap a subclassed model any more.

    Attributes:
        elementary_model: the `keras.Model` inside, whose weights are trained.
    """

    def __init__(self, inputs: Any, outputs: Any = None, name=None):
        """Initializes the model.

        Args:
            inputs: `keras.Input`s, as for `keras.Model`; or, without
                `outputs`, a built `keras.Model`, see `from_model`.
            outputs: what the model computes from `inputs`.
            name: str.

        Raises:
            TypeError: if `inputs` alone is not a `keras.Model`, or a model
                comes with `outputs`, or a subclass overrides what training
                would not call.
            ValueError: if `inputs` alone is a model that is not built, or that
                trains or evaluates by steps of its own.
        """
        check_overrides(type(self))
        if outputs is not None and isinstance(inputs, keras.Model):
            raise arguments.type_error(
                "outputs",
                outputs,
                "no more than the model to wrap",
                advice="Pass hyperparameters to "
                "`compile(hyperparameters=[...])`.",
            )
        if outputs is not None:
            inputs = keras.Model(inputs, outputs, name=name)
        check_elementary_model(inputs)
        super().__init__(name=name or inputs.name)
        self.elementary_model = inputs
        self.built = True

    def compile_elementary_model(
        self,
        optimizer: Any,
        loss: Any,
        loss_weights: Any,
        metrics: Any,
        weighted_metrics: Any,
        *,
        run_eagerly: bool,
        steps_per_execution: int,
        auto_scale_loss: bool,
        **own: Any,
    ) -> None:
        """Compiles the model inside, and this one with the same optimizer.

        Args:
            optimizer: as for `keras.Model.compile`, and so are the others.
            **own: what the model's own `compile` takes besides.

        Raises:
            TypeError: if it takes other arguments.
            ValueError: if one is not valid.
        """
        arguments.choice("run_eagerly", run_eagerly, (False,), advice=EAGERLY)
        if steps_per_execution != "auto":
            arguments.whole("steps_per_execution", steps_per_execution, 1)
        arguments.boolean("auto_scale_loss", auto_scale_loss)
        for_both = {
            "jit_compile": False,
            "steps_per_execution": steps_per_execution,
        }
        given = {
            "optimizer": optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "auto_scale_loss": auto_scale_loss,
            **for_both,
        }
        model = self.elementary_model
        if type(model).compile is keras.Model.compile:
            arguments.no_others("compile", own, COMPILE_ARGUMENTS)
        else:
            given = _taken(model, given, own)
        model.compile(**given)
        super().compile(optimizer=model.optimizer, **for_both)

    def call(self, inputs, training=None):
        """Returns the elementary model's outputs."""
        if keras_internals.takes_training(self.elementary_model):
            return self.elementary_model(inputs, training=training)
        return self.elementary_model(inputs)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the elementary model's output."""
        return self.elementary_model.compute_output_shape(input_shape)

    def compute_output_spec(self, *args, **kwargs):
        """Returns placeholders of what `call` returns, of its own dtypes."""
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def test_step(self, data):
        """Evaluates a batch, as the elementary model does."""
        logs = self.elementary_model.test_step(data)
        return keras_internals.of_step(self, logs)

    def train_step(self, data):
        """Refuses: Keras's own step would leave the hyperparameters out.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "`DrMADModel` runs whole trainings. Use `fit(..., "
            "meta_iterations=0)` to train with the present hyperparameters, "
            "or `model.elementary_model` to train without hyperparameters."
        )

    @property
    def metrics(self):
        """The elementary model's metrics."""
        if "elementary_model" not in self.__dict__:
            return []
        return self.elementary_model.metrics

    @property
    def layers(self):
        """The elementary model's layers."""
        return self.elementary_model.layers

    @property
    def input(self):
        """The elementary model's input, or inputs as they are nested.

        Of a model that has none, but is a layer of another one, those there.
        """
        return self._of_first_call("input")

    @property
    def output(self):
        """The elementary model's output, or outputs as they are nested.

        Of a model that has none, but is a layer of another one, those there.
        """
        return self._of_first_call("output")

    def _of_first_call(self, name):
        try:
            return getattr(self.elementary_model, name)
        except AttributeError:
            return getattr(super(), name)

    @property
    def output_names(self):
        """The names of the elementary model's outputs."""
        return self.elementary_model.output_names

    @property
    def inputs(self):
        """The elementary model's inputs."""
        return self.elementary_model.inputs

    @property
    def outputs(self):
        """The elementary model's outputs."""
        return self.elementary_model.outputs

    @property
    def input_shape(self):
        """The shapes of the elementary model's inputs."""
        return self.elementary_model.input_shape

    @property
    def output_shape(self):
        """The shapes of the elementary model's outputs."""
        return self.elementary_model.output_shape

    def summary(self, *args, **kwargs):
        """Prints the summary of the elementary model."""
        self.elementary_model.summary(*args, **kwargs)

    @keras_internals.outside
    def export(self, filepath, *args, **kwargs):
        """Exports a SavedModel that loads without this package.

        The arguments are those of `keras.Model.export`.
        """
        self.elementary_model.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = keras.saving.serialize_keras_object(self.elementary_model)
        config.pop("compile_config", None)  # part of this model's config
        return {"inputs": config, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the model with these constructor arguments.

        Those that a subclass adds in its `get_config` come as they are there.
        """
        model = keras.saving.deserialize_keras_object(
            config["inputs"], custom_objects=custom_objects
        )
        return cls(model, **{k: v for k, v in config.items() if k != "inputs"})

    def get_build_config(self):
        """Returns `None`: the elementary model is built by its own config."""
        return None


def _taken(
    model: keras.Model, given: dict[str, Any], own: dict[str, Any]
) -> dict[str, Any]:
    """Returns what a `compile` of a class's own takes of some arguments.

    Args:
        model: a model with a `compile` of its own.
        given: the arguments of `keras.Model.compile`; the `compile` may lack
            those that are at their defaults.
        own: what the `compile` takes besides.

    Raises:
        TypeError: if the `compile` can't take the arguments.
    """
    signature = inspect.signature(model.compile)
    names = {p.name for p in signature.parameters.values()}
    takes_all = any(
        p.kind is inspect.Parameter.VAR_KEYWORD
        for p in signature.parameters.values()
    )
    defaults = inspect.signature(keras.Model.compile).parameters
    kept = own | {
        name: value
        for name, value in given.items()
        if takes_all
        or name in names
        or (name != "jit_compile" and value is not defaults[name].default)
    }
    try:
        signature.bind(**kept)
    except TypeError as error:
        raise TypeError(
            f"Invalid arguments of `compile`. Expected what the `compile` of "
            f"{type(model).__name__}, the class of the model '{model.name}', "
            f"takes: {signature}. Received: {', '.join(kept)} ({error}). Pass "
            "what it needs besides by name, to this `compile`."
        ) from error
    return kept


def check_built(model: Any) -> None:
    """Checks that an argument is a model that has its weights.

    Raises:
        TypeError: if it is not a `keras.Model`.
        ValueError: if it is not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Invalid type for argument `model`. Expected a `keras.Model`, or "
            "`DrMADModel(inputs, outputs)`. "
            f"Received: {model!r} of type {type(model).__name__}."
        )
    layers = keras_internals.layers_within(model)
    is_empty = not model.variables and not all(one.built for one in layers)
    if not model.built or is_empty:
        raise ValueError(
            f"Invalid value for argument `model`. Expected a built model, but "
            f"'{model.name}' has no weights yet. Give it a `keras.Input`, or "
            "call it once on a batch: `model(x[:1])`."
        )


def check_elementary_model(model: Any) -> None:
    """Checks that a model can be wrapped.

    Raises:
        TypeError: if it is not a `keras.Model`.
        ValueError: if it is not built, or trains by steps of its own.
    """
    check_built(model)
    for name in STEPS:
        own = getattr(model, name)
        if getattr(own, "__func__", own) is not getattr(keras.Model, name):
            raise ValueError(
                "Invalid value for argument `model`. Expected a model that "
                f"trains by its loss. Received: '{model.name}', whose class "
                f"{type(model).__name__} has its own `{name}`, which the loops "
                "of training and validation would not call. Override "
                "`compute_loss` and `compute_metrics` instead; of a "
                "`DrMADModel` pass the `elementary_model`."
            )


def check_overrides(kind: type) -> None:
    """Checks that a subclass overrides nothing that would not be called.

    Raises:
        TypeError: if it does.
    """
    bases = dict.fromkeys(PARTS, keras.Model) | dict.fromkeys(
        ("call", *STEPS[:2]), Wrapper
    )
    for name, base in bases.items():
        if getattr(kind, name) is not getattr(base, name):
            raise TypeError(
                f"The class {kind.__name__} overrides `{name}`, which training "
                "would not call: training calls the elementary model's "
                "`call`, `compute_loss` and `compute_metrics`. Override these "
                "in a `keras.Model`, and wrap that model by `from_model`."
            )
