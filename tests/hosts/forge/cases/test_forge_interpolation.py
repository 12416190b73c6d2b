"""The cases of ../../webui/test_webui_interpolation.py."""
from test_webui_interpolation import *  # noqa: F403
