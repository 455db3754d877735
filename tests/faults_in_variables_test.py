"""No fault in variables of a step, or in sparse gradients; see `faults`."""

import pytest

import faults

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.self_check,
]


@pytest.mark.parametrize(
    "member", faults.members_of("variables"), ids=faults.name_of
)
def test_no_member_is_wrong(member):
    assert member.run() in (faults.RIGHT, faults.REFUSED)
