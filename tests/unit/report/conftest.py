"""One small axial reading, shared by the tests that do not need another source."""

import pytest

from result_cases import Case, make_case


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("axial"))
