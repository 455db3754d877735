"""Where layers keep their initializers."""

import dataclasses

import keras
import pytest

from redraws import Own, assert_fresh, model_of, redraw_of

initializers = keras.initializers


@dataclasses.dataclass
class Choices:
    """What a layer of one's own may be told all together."""

    first: keras.initializers.Initializer


class Hiding:
    """What no look at attributes goes into."""

    def __init__(self, initializer):
        self.initializer = initializer


PLACES = {
    "attribute": lambda one: one,
    "list of dicts of tuples": lambda one: [{"first": (one,)}],
    "dataclass": Choices,
}


@pytest.mark.parametrize("units", [3, 20])
@pytest.mark.parametrize("place", PLACES)
def test_an_initializer_is_found_wherever_it_is_kept(place, units):
    one = initializers.Orthogonal()
    redraw = redraw_of(model_of(Own(one, units, PLACES[place](one))))
    assert redraw.drawn == [True, False]
    assert_fresh(redraw)


@pytest.mark.parametrize("seed", [4, None])
def test_a_seed_of_the_config_counts(seed):
    class Configured(Own):
        def get_config(self):
            given = initializers.serialize(self.kept.initializer)
            return {"initializer": given}

    one = initializers.Orthogonal(seed=seed)
    model = model_of(Configured(one, keep=Hiding(one)))
    assert redraw_of(model).drawn == [seed is not None, False]


def test_the_name_says_for_which_variable():
    class Two(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.in_initializer = initializers.HeNormal()
            self._out_initializer = initializers.HeNormal()

        def build(self, shape):
            square = (shape[-1], shape[-1])
            self.b = self.add_weight(
                shape=square, initializer=self._out_initializer, name="out"
            )
            self.a = self.add_weight(
                shape=square, initializer=self.in_initializer, name="in_kernel"
            )

        def call(self, x):
            return x @ self.a @ self.b

    model = model_of(Two())
    redraw = redraw_of(model)
    assert redraw.drawn == [True, True]
    # Of the other's draws no variable is.
    model.set_weights(model.get_weights()[::-1])
    assert redraw_of(model).drawn == [False, False]
