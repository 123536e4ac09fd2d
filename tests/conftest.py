"""Settings of the whole test run."""

import os

from hypothesis import settings

from tests.prefect_server import connected as connected
from tests.prefect_server import prefect_server as prefect_server

# How long an example takes says how busy the machine is, not whether the code is right. In CI the
# examples are the same every time: a new finding belongs to a developer's run, not to an unrelated
# change.
settings.register_profile("scanscribe", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("scanscribe")

# A model server that a user keeps warm is no part of a test; tests of servers make their own.
os.environ["SCANSCRIBE_MODEL_SERVER"] = "never"
