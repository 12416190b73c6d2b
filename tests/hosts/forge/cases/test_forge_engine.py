"""The cases of ../../webui/test_webui_engine.py."""
from test_webui_engine import *  # noqa: F403
