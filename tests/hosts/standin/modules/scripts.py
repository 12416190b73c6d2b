"""Extensions' scripts, and the runner that calls their hooks. Exceptions of hooks are reported and swallowed."""
import importlib.util
import inspect
from pathlib import Path

from modules import errors, paths

AlwaysVisible = object()
HOOKS = ["before_process", "process", "before_process_batch", "after_extra_networks_activate", "process_batch",
         "process_before_every_sampling", "before_hr", "post_sample", "postprocess_batch", "postprocess_batch_list",
         "postprocess_image", "postprocess_maskoverlay", "postprocess_image_after_composite", "postprocess",
         "on_mask_blend"]  # fmt: skip
current_basedir = paths.script_path
scripts_data = []


class PostSampleArgs:
    def __init__(self, samples):
        self.samples = samples


class PostprocessImageArgs:
    def __init__(self, image):
        self.image = image


class PostProcessMaskOverlayArgs:
    def __init__(self, index, mask_for_overlay, overlay_image):
        self.index, self.mask_for_overlay, self.overlay_image = index, mask_for_overlay, overlay_image


class PostprocessBatchListArgs:
    def __init__(self, images):
        self.images = images


class Script:
    filename = name = None
    args_from = args_to = 0
    alwayson = is_txt2img = is_img2img = False
    infotext_fields = paste_field_names = None

    def title(self):
        raise NotImplementedError

    def ui(self, is_img2img):
        pass

    def show(self, is_img2img):
        return True

    def run(self, p, *args):
        pass

    def setup(self, p, *args):
        pass


def _nothing(self, p, *args, **kwargs):
    pass


for _name in HOOKS:
    setattr(Script, _name, _nothing)


class ScriptRunner:
    """The scripts of one tab. `args`: number of arguments of each."""

    def __init__(self, is_img2img):
        self.is_img2img, self.alwayson_scripts = is_img2img, []
        for script_class, path in scripts_data:
            script = script_class()
            script.filename, script.is_img2img, script.is_txt2img = path, is_img2img, not is_img2img
            if script.show(is_img2img) is AlwaysVisible:
                script.alwayson = True
                self.alwayson_scripts.append(script)
        self.scripts = self.alwayson_scripts

    def setup_scrips(self, p, *, is_ui=True):  # the host's own spelling
        self._call("setup", p)

    def run(self, p, *args):
        """Run the script chosen in the page's list. There is none."""

    def _call(self, name, p, *more, **kwargs):
        for script in self.alwayson_scripts:
            if getattr(type(script), name) is getattr(Script, name):
                continue
            try:
                getattr(script, name)(p, *more, *p.script_args[script.args_from : script.args_to], **kwargs)
            except Exception:
                errors.report(f"Error running {name}: {script.filename}", exc_info=True)


def _runs(name):
    return lambda self, p, *more, **kwargs: self._call(name, p, *more, **kwargs)


for _name in HOOKS:
    setattr(ScriptRunner, _name, _runs(_name))


def basedir():
    return current_basedir


def load(path):
    """Import an extension's script and register its Script classes."""
    global current_basedir
    path = Path(path)
    spec = importlib.util.spec_from_file_location(path.name, path)
    module = importlib.util.module_from_spec(spec)
    current_basedir = str(path.parent.parent)
    try:
        spec.loader.exec_module(module)
    finally:
        current_basedir = paths.script_path
    classes = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Script) and c is not Script]
    scripts_data.extend((c, str(path)) for c in classes)
    return module


def show():
    """Build the page: both tabs get their scripts."""
    global scripts_txt2img, scripts_img2img
    scripts_txt2img, scripts_img2img = ScriptRunner(False), ScriptRunner(True)


scripts_txt2img = scripts_img2img = None
