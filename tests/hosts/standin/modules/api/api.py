"""The host's API: the arguments of each script, from a request's alwayson_scripts."""


class Api:
    def __init__(self, app, guard=()):
        app.add_api_route("/sdapi/v1/txt2img", self.init_script_args, methods=["POST"], dependencies=guard)

    def init_script_args(self, request, default_script_args, script_runner):
        args = list(default_script_args)
        for name in request.alwayson_scripts:
            script = next(s for s in script_runner.alwayson_scripts if s.title().lower() == name.lower())
            if "args" in request.alwayson_scripts[name]:
                given = request.alwayson_scripts[name]["args"]
                for at in range(min(script.args_to - script.args_from, len(given))):
                    args[script.args_from + at] = given[at]
        return args
