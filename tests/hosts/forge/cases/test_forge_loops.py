"""The cases of ../../webui/test_webui_loops.py."""
from test_webui_loops import *  # noqa: F403
