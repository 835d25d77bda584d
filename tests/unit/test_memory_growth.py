"""A leak is seen below the noise of jobs, and noise is not taken for a leak."""

import random

import pytest

from memory_growth import growth


def life(*, leak_mb_min: float, minutes: float, level: float = 200.0, seed: int = 1) -> list[tuple[float, float]]:
    """Samples of a process with jobs of 8 s that use 150 MB more, keep up to 50 MB until the next one, and warm up."""
    rng, samples, kept = random.Random(seed), [], 0.0
    for second in range(int(minutes * 60) + 1):
        if second % 8 == 7:
            kept = rng.choice([0.0, 0.0, rng.uniform(5, 50)])
        floor = level + leak_mb_min * second / 60 - 60 * max(0.0, 1 - second / 30)
        samples.append((1000.0 + second, floor + (rng.uniform(50, 150) if second % 8 < 4 else kept)))
    return samples


@pytest.mark.parametrize("leak", [0.0, 2.0, 6.0])
def test_what_grows_is_told_from_what_goes_up_and_down(leak):
    lives = [life(leak_mb_min=leak, minutes=m, level=180 + 9 * m, seed=m) for m in (3, 4, 5, 6, 8)]
    found = growth(lives, warm_s=60, window_s=60)
    assert abs(found.slope - leak) < 1.0 and found.error < 1.0
    assert (found.floors, found.lives) == (2 + 3 + 4 + 5 + 7, 5)


def test_too_little_is_said_to_be_too_little():
    assert growth([], warm_s=60, window_s=60) is None
    assert growth([life(leak_mb_min=0, minutes=1)] * 9, warm_s=60, window_s=60) is None
