"""The cases of ../../webui/test_webui_sound.py."""
from test_webui_sound import *  # noqa: F403
