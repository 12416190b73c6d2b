"""The accordion on a page of a real gradio 4, with the stand-in as its host: python gradio4_page.py PORT FOLDER PATHS.

FOLDER holds motion modules. PATHS, joined as in $PATH, are searched for packages that this Python lacks: the project
and its dependencies. A button below the accordion shows the values that the controls send. The gallery has the clip
FOLDER/clip.gif.
"""
from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import fastapi
import gradio as gr

HERE = Path(__file__).parent


def main(port: int, folder: Path) -> None:
    real = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("gradio", "fastapi")}
    sys.path.insert(0, str(HERE / "standin"))
    from standin_host import standing_in

    with standing_in(folder) as host:
        sys.path.remove(str(HERE / "standin"))
        for name in [name for name in sys.modules if name.split(".")[0] == fastapi.__name__]:
            del sys.modules[name]
        sys.modules.update(real)  # replaces the stand-in's own
        host.opts.data["animatediff_model_path"] = str(folder)
        sys.modules["modules.sd_models"].model_data = SimpleNamespace(sd_model=host.shared.sd_model)
        sys.modules["modules.scripts"].scripts_img2img = SimpleNamespace(alwayson_scripts=[])
        host.shared.sd_model.sd_checkpoint_info.name_for_extra = "photo"
        host.shared.demo = SimpleNamespace(temp_files=set(), GRADIO_CACHE=gr.Blocks().GRADIO_CACHE)
        page(folder).launch(server_name="127.0.0.1", server_port=port, show_api=False, quiet=True)


def page(folder: Path) -> gr.Blocks:
    from animatediff.hosts.a1111 import ui

    connect = {}
    script = SimpleNamespace(on_after_component=lambda f, elem_id: connect.update({elem_id: f}))
    script_of_page = (HERE.parents[1] / "javascript" / "animatediff-finished.js").read_text()
    head = f"<script>window.gradioApp = () => document;\n{script_of_page}</script>"
    with gr.Blocks(css=(HERE.parents[1] / "style.css").read_text(), head=head) as blocks:
        gr.Slider(elem_id="txt2img_steps", value=20)
        gr.Dropdown(elem_id="txt2img_sampling", choices=["Euler", "DDIM"], value="Euler")
        gr.Slider(elem_id="txt2img_batch_count", value=1)
        components = ui.build(False, script).components
        send, sent = gr.Button("Send", elem_id="send"), gr.Textbox(elem_id="sent")
        gallery = gr.Gallery([str(folder / "clip.gif")], elem_id="txt2img_gallery")
        connect["txt2img_gallery"](SimpleNamespace(component=gallery))
        for kind, name in ((gr.Button, "txt2img_send_to_extras"), (gr.HTML, "html_info_txt2img"),
                           (gr.HTML, "html_log_txt2img"), (gr.Textbox, "generation_info_txt2img")):
            component = kind(elem_id=name)
            if name in connect:
                connect[name](SimpleNamespace(component=component))
        send.click(lambda *values: repr(values), inputs=components, outputs=[sent])
    return blocks


if __name__ == "__main__":
    sys.path += sys.argv[3].split(os.pathsep)
    main(int(sys.argv[1]), Path(sys.argv[2]))
