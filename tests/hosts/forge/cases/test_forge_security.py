"""The cases of ../../webui/test_webui_security.py."""
from test_webui_security import *  # noqa: F403
