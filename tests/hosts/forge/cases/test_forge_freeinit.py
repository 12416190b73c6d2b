"""The cases of ../../webui/test_webui_freeinit.py."""
from test_webui_freeinit import *  # noqa: F403
