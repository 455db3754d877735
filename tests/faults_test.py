"""No member of any kind of faults is wrong; see `faults`."""

import importlib
import pkgutil

import pytest

import faults

for module in pkgutil.iter_modules(faults.__path__, "faults."):
    importlib.import_module(module.name)

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.self_check,
]


@pytest.mark.parametrize(
    "member", faults.MEMBERS, ids=lambda m: f"{m.kind}: {m.name}"
)
def test_no_member_is_wrong(member):
    assert member.run() in (faults.RIGHT, faults.REFUSED)
