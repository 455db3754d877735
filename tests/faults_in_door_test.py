"""No fault in the front door: files, callbacks, metrics; see `faults`."""

import pytest

import faults

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    "member", faults.members_of("door"), ids=faults.name_of
)
def test_no_member_is_wrong(member):
    assert member.run() in (faults.RIGHT, faults.REFUSED)
