import pytest

from ovcf_node.deliver.backoff import delay


def test_doubles_up_to_the_cap():
    delays = [delay(n, 10, 900) for n in range(1, 12)]
    assert all(0.75 * full <= d <= full for d, full in zip(delays, [10, 20, 40, 80, 160, 320, 640, *[900] * 4], strict=True))


@pytest.mark.parametrize("attempt", [-5, 0, 1, 1024, 10**9])
def test_never_overflows(attempt):
    assert 0 < delay(attempt, 10, 900) <= 900


def test_is_the_same_for_the_same_and_differs_between_keys():
    assert delay(3, 10, 900, "a") == delay(3, 10, 900, "a")
    assert len({delay(3, 10, 900, str(key)) for key in range(50)}) > 20
