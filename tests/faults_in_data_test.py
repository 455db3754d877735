"""No fault in data, and in what they are given to; see `faults`."""

import pytest

import faults

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    "member", faults.members_of("data"), ids=faults.name_of
)
def test_no_member_is_wrong(member):
    assert member.run() in (faults.RIGHT, faults.REFUSED)
