"""The cases of ../../webui/test_webui_model_files.py."""
from test_webui_model_files import *  # noqa: F403
