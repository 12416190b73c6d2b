"""The installed extensions. Tests append to `extensions` what `active` returns: objects with `name` and `path`."""
extensions: list = []


def active():
    return list(extensions)
