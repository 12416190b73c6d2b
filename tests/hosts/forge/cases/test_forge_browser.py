"""The cases of ../../webui/test_webui_browser.py."""
from test_webui_browser import *  # noqa: F403
