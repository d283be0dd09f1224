"""Schedules that Kubernetes takes, and those that it refuses."""

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.manifests.cron import check_schedule


@pytest.mark.parametrize(
    "schedule", ["30 3 * * *", "*/5 0-6/2 1,15 jan-MAR sun", "@daily", "0 0 31 12 6", "59 23 * * MON-FRI"]
)
def test_a_schedule_is_taken(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize(
    ("schedule", "what"),
    [
        ("daily", "1 field(s)"),
        ("0 3 * * * *", "6 field(s)"),
        ("60 3 * * *", "'60' as minute, which goes from 0 to 59"),
        ("0 24 * * *", "'24' as hour"),
        ("0 3 0 * *", "'0' as day of the month"),
        ("0 3 * FOO *", "'FOO' as month"),
        ("0 3 * * 7", "'7' as day of the week, which goes from 0 to 6"),
        ("5-1 3 * * *", "'5-1' as minute"),
        ("*/0 3 * * *", "'*/0' as minute"),
        ("1, 3 * * *", "'' as minute"),
        ("٣ 3 * * *", "as minute"),
    ],
)
def test_the_wrong_field_is_named(schedule, what):
    with pytest.raises(UserError, match="--schedule") as told:
        check_schedule(schedule)
    assert what in str(told.value)
