from __future__ import annotations

import pytest

from tests.recipes.kit import Kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return Kit(tmp_path_factory.mktemp("kit"))
