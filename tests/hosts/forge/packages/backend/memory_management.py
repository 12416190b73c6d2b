from memory_stand_in import *  # noqa: F403
