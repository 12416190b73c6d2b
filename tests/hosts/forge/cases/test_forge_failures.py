"""The cases of ../../webui/test_webui_failures.py."""
from test_webui_failures import *  # noqa: F403
