"""The cases of ../../webui/test_webui_travel.py."""
from test_webui_travel import *  # noqa: F403
