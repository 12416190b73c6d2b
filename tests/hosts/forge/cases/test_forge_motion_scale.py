"""The cases of ../../webui/test_webui_motion_scale.py."""
from test_webui_motion_scale import *  # noqa: F403
