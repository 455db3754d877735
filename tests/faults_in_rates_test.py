"""No fault in rates, and in words on arguments; see `faults`."""

import pytest

import faults

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    "member", faults.members_of("rates"), ids=faults.name_of
)
def test_no_member_is_wrong(member):
    assert member.run() in (faults.RIGHT, faults.REFUSED)
