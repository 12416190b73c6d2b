"""The cases of ../../webui/test_webui_memory.py."""
from test_webui_memory import *  # noqa: F403
