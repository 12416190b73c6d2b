"""The cases of ../../webui/test_webui_source.py."""
from test_webui_source import *  # noqa: F403
