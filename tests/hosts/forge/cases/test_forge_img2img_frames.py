"""The cases of ../../webui/test_webui_img2img_frames.py."""
from test_webui_img2img_frames import *  # noqa: F403
