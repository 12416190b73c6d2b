"""Texts for the page."""
import html


def plaintext_to_html(text, classname=None):
    return f"<p{f' class={classname!r}' if classname else ''}>{html.escape(text)}</p>"
