"""The documentation site: built without a warning, complete, and by itself."""

import inspect
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import zlib

import pytest

import keras_drmad as kd
from keras_drmad import methods

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

ROOT = pathlib.Path(__file__).resolve().parents[1]
URL = re.compile(
    r"<(?:script|img|iframe)[^>]* src=[\"']?(https?://[^\"' >]+)"
    r"|<link[^>]* rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*"
    r" href=[\"']?(https?://[^\"' >]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Returns the folder of the site that `make docs` would build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def documented(site):
    """Returns the names in the inventory of the API."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" py:")[0] for line in lines}


def public():
    """Returns the public names, as a user writes them."""
    names = {
        f"{module.__name__}.{name}"
        for module in (kd, methods, kd.hyperparameters, kd.layers)
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
    }
    for module in (kd.callbacks, kd.plots, kd.loss_along_line):
        names |= {
            f"{module.__name__}.{name}"
            for name, thing in vars(module).items()
            if not name.startswith("_")
            and (inspect.isclass(thing) or inspect.isfunction(thing))
            and thing.__module__.startswith("keras_drmad")
        }
    return names - INNER | {"keras_drmad.meta_rate_search.MetaRateSearch"}


# What a module takes from another one, and a check of an argument.
INNER = {
    "keras_drmad.loss_along_line.checked_places",
    "keras_drmad.plots.HyperparameterCheck",
}


def test_every_public_name_is_in_the_api(site):
    assert {"keras_drmad.DrMAD", "keras_drmad.layers.Dropout"} <= public()
    missing = public() - documented(site)
    assert not missing, f"docs/api/ has no {sorted(missing)}"


def test_what_users_call_of_a_model_is_in_the_api(site):
    methods_of_a_model = {"compile", "fit", "to_keras", "check_hypergradient"}
    names = {f"keras_drmad.DrMADModel.{name}" for name in methods_of_a_model}
    assert not names - documented(site)


def test_a_name_that_is_not_in_the_api_is_missed(site):
    assert "keras_drmad.DrMAX" not in documented(site)
    assert "keras_drmad.DrMADModel.forget" not in documented(site)  # inner


def test_nothing_comes_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        found = URL.findall(page.read_text(encoding="utf-8"))
        assert not found, f"{page.name} loads {found}"


def test_pictures_and_tabs_are_there(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    (picture,) = re.findall(r'src="([^"]+carries_over\.png)"', home)
    assert (site / picture).is_file()
    pages = (site / "from_keras.html").read_text(encoding="utf-8")
    assert pages.count('class="tabbed-set') == 4
    deeper = (site / "howto" / "own_layer.html").read_text(encoding="utf-8")
    assert "<!-- tabs" not in pages and "](" not in re.sub(r"<.*?>", "", deeper)


def test_links_out_of_the_pages_lead_to_the_repository(site):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    home = settings["project"]["urls"]["Repository"]
    page = (site / "index.html").read_text(encoding="utf-8")
    assert f'href="{home}/blob/main/CONTRIBUTING.md"' in page
    deeper = (site / "howto" / "schedules.html").read_text(encoding="utf-8")
    assert f'href="{home}/blob/main/notebooks/schedule.ipynb"' in deeper
    start = (site / "get_started.html").read_text(encoding="utf-8")
    assert f'href="{home}/blob/main/saved_runs/README.md"' in start


def test_links_within_code_stay_as_they_are():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import hooks
    finally:
        sys.path.pop(0)
    text = "[a](../b.md)\n\n```python\nx[0](../c.md)\n```\n\n[d](../e.md)\n"
    changed = hooks.without_code(
        text, lambda part: hooks.LINK.sub(lambda found: "f", part)
    )
    assert changed == text.replace("../b.md", "f").replace("../e.md", "f")
    assert (
        hooks.outside("../saved_runs/a.png", "index.md") == "saved_runs/a.png"
    )
    assert hooks.outside("../index.md", "howto/own_kind.md") is None
    assert hooks.outside("../../Makefile", "howto/own_kind.md") == "Makefile"
