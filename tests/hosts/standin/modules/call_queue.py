"""The host's queue: one job at a time."""
import html
from functools import wraps
from threading import Lock

from modules import shared

queue_lock = Lock()


def wrap_gradio_gpu_call(func, extra_outputs=None):
    @wraps(func)
    def f(*args, **kwargs):
        with queue_lock:
            shared.state.begin(job=args[0])
            try:
                return tuple(func(*args, **kwargs))
            except Exception as e:
                said = html.escape(f"{type(e).__name__}: {e}")
                return (*(extra_outputs or [None, ""]), f"<div class='error'>{said}</div>")
            finally:
                shared.state.end()

    return f
