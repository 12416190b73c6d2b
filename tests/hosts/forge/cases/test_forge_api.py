"""The cases of ../../webui/test_webui_api.py."""
from test_webui_api import *  # noqa: F403
