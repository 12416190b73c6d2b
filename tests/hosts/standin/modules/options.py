"""Settings, declared with a default and stored in `data` once they are set."""


class OptionInfo:
    def __init__(self, default=None, label="", component=None, component_args=None, onchange=None, section=None,
                 refresh=None, comment_before="", comment_after="", infotext=None,
                 restrict_api=False, category_id=None):
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.onchange, self.section, self.refresh, self.infotext = onchange, section, refresh, infotext
        self.restrict_api, self.category_id, self.do_not_save = restrict_api, category_id, False

    def _said(self, *_):
        return self

    info = link = html = js = needs_restart = needs_reload_ui = _said


class Options:
    def __init__(self, labels):
        vars(self).update(data={}, data_labels=dict(labels))

    def __getattr__(self, name):
        own = vars(self)
        if name in own["data"]:
            return own["data"][name]
        if name in own["data_labels"]:
            return own["data_labels"][name].default
        raise AttributeError(name)

    def __setattr__(self, name, value):
        if name == "data":
            vars(self)["data"] = value
        else:
            self.data[name] = value

    def set(self, name, value, is_api=False, run_callbacks=True):
        self.data[name] = value
        return True

    def get_default(self, name):
        info = self.data_labels.get(name)
        return info.default if info else None

    def add_option(self, name, info):
        self.data_labels[name] = info
        self.data.setdefault(name, info.default)


def options_section(section, options):
    for info in options.values():
        info.section = tuple(section[:2])
    return options
