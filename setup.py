"""Installs keras_drmad: `pip install .` or `pip install -e '.[test]'`."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent


def version() -> str:
    """Returns `__version__` without importing the package and TensorFlow."""
    text = (ROOT / "keras_drmad" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("keras_drmad/__init__.py states no __version__.")
    return match[1]


TUNER = ["keras-tuner>=1.4.8,<1.5"]
PLOTS = ["matplotlib>=3.10.8,<4"]
# TensorFlow 2.21 no longer brings TensorBoard; Keras's callback writes with it.
EXAMPLES = [
    *PLOTS,
    *TUNER,
    "absl-py>=2.1",
    # TFDS 4.9.10 imports it without asking for it.
    "importlib_resources>=6",
    "scikit-learn>=1.8,<2",
    "tensorboard>=2.20,<3",
    "tensorflow-datasets>=4.9.8,<5",
]
TEST = [
    *EXAMPLES,
    "mypy>=2.4,<2.5",
    "pytest>=9,<10",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17.6,<0.18",
]

setuptools.setup(
    name="keras_drmad",
    version=version(),
    description="Hyperparameter learning by gradient for Keras: DrMAD and kin.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The keras_drmad authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # The package steps stock Keras optimizers through Keras's stateless scope,
    # which is not a stable interface: a new minor version is admitted here
    # after the tests have passed with it.
    install_requires=[
        "keras>=3.15,<3.16",
        "numpy>=2.0,<3",
        "tensorflow>=2.21,<2.22",
    ],
    extras_require={
        "plots": PLOTS,
        "tuner": TUNER,
        "examples": EXAMPLES,
        "test": TEST,
    },
    packages=setuptools.find_packages(include=["keras_drmad", "keras_drmad.*"]),
    package_data={"keras_drmad": ["py.typed"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
