"""The cases of ../../webui/test_webui_refine.py."""
from test_webui_refine import *  # noqa: F403
