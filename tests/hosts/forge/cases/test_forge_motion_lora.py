"""The cases of ../../webui/test_webui_motion_lora.py."""
from test_webui_motion_lora import *  # noqa: F403
