"""What tests of training share."""

import pytest


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors: more threads than cores cost far more than they bring."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
