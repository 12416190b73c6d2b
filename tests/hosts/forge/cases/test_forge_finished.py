"""The cases of ../../webui/test_webui_finished.py."""
from test_webui_finished import *  # noqa: F403
