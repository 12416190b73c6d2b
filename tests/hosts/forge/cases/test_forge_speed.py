"""The cases of ../../webui/test_webui_speed.py."""
from test_webui_speed import *  # noqa: F403
