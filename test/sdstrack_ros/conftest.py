from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testkit.ros.camera import RosTest, ros_test
from testkit.ros.processes import private_domain, ros_environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RosTest]:
    """A domain, a context and a node of the module's own, for tests that need no process beside their own."""
    with private_domain() as domain, ros_test(domain, ros_environment(domain, tmp_path_factory.mktemp("log"))) as ros:
        yield ros
