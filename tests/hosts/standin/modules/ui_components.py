"""An accordion with a checkbox in its header: a hidden checkbox, and an accordion that follows it."""
import gradio as gr


class InputAccordion(gr.Checkbox):
    def __init__(self, value, **kwargs):
        super().__init__(value=value, **{**kwargs, "elem_id": f"{kwargs['elem_id']}-checkbox", "visible": False})
        self.accordion = gr.Accordion(label=kwargs["label"], open=value, elem_id=kwargs["elem_id"])

    def __enter__(self):
        self.accordion.__enter__()
        return self

    def __exit__(self, *error):
        self.accordion.__exit__(*error)
