"""The cases of ../../webui/test_webui_generation.py."""
from test_webui_generation import *  # noqa: F403
