"""The cases of ../../webui/test_webui_views.py."""
from test_webui_views import *  # noqa: F403
