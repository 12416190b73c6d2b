"""The documentation against the code: flags, tables, examples, links. `python -m tests.test_docs` renews the tables."""
from __future__ import annotations

import io
import re
import shlex
import tempfile
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from animatediff import settings as table
from animatediff import windows
from animatediff.errors import SettingsError
from animatediff.faces.cli import main as cli
from animatediff.media.write.base import WriteOptions
from animatediff.settings import PARAMETERS, Settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")])
RENDER = ('pip install -c constraints.txt -e ".[engine]" && '
          'animatediff render "a red circle moving right" --out demo.gif')
TEST = 'pip install -c constraints.txt -e ".[engine,dev]" && pytest'
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", read(page))


# Tables that are made from the code.


def rows(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def code(value: object) -> str:
    text = ",".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else \
        f"{value}"
    return f"`{text}`" if text else "empty"


def flags_of(group: str) -> str:
    offered = [p.for_people() for p in PARAMETERS if p.group == group and p.cli]
    body = [[code(p.cli), p.help, p.range, code(p.default)] for p in offered]
    return rows(["Flag", "Meaning", "Accepts", "Default"], body)


def parameters() -> str:
    body = [[f"[`{p.name}`](#{p.name})", code(p.cli) if p.cli else "", p.range, code(p.default),
             ", ".join(map(code, p.aliases))] for p in PARAMETERS]
    return rows(["Name", "Flag", "Accepts", "Default", "Also called"], body)


def families() -> str:
    from animatediff.motion import FAMILIES

    def over_frames(family) -> str:
        parts = {"ResBlocks": family.resnet_norm_over_frames, "output": family.out_norm_over_frames,
                 "module": family.module_norm_over_frames}
        return ", ".join(name for name, yes in parts.items() if yes) or "none"

    body = [[f.name, f.base, str(f.best_frames), str(f.max_frames), "yes" if f.has_mid else "no", over_frames(f),
             f"{f.betas.kind} to {f.betas.end}"] for f in FAMILIES.values()]
    head = ["Family", "For", "Trained window", "Positions", "Middle block", "GroupNorm over frames", "Betas"]
    return rows(head, body)


def window_counts() -> str:
    steps, options = 20, {"none": {}, "seamless": {"closed_loop": "seamless"}, "R-P, R+P": {"closed_loop": "R-P"},
                          "A": {"closed_loop": "A"},
                          "stride 2": {"stride": 2}, "static standard": {"schedule": "static standard"},
                          "batched": {"schedule": "batched"}}
    body = [[str(frames), *(str(windows.total(frames, 16, steps=steps, **more)) for more in options.values())]
            for frames in (16, 24, 32, 64, 128)]
    return rows(["Frames", *options], body)


TABLES = {
    "cli.md": {f"flags-{group}": lambda group=group: flags_of(group) for group in table.GROUPS},
    "parameters.md": {"parameters": parameters},
    "motion-modules.md": {"families": families},
    "context-windows.md": {"windows": window_counts},
}
MARKED = r"(<!-- table:{} -->\n).*?(<!-- /table -->)"


def renewed(page: str) -> str:
    """The page with its tables as the code has them."""
    text = read(DOCS / page)
    for name, make in TABLES[page].items():
        table = make()
        text, count = re.subn(MARKED.format(name), lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)
        assert count == 1, f"{page} has {count} tables {name}"
    return text


def test_tables_are_those_of_the_code():
    old = [page for page in TABLES if read(DOCS / page) != renewed(page)]
    assert not old, "run python -m tests.test_docs"


# Flags and commands.


def help_of(*words: str) -> str:
    said = io.StringIO()
    with pytest.raises(SystemExit), redirect_stdout(said):
        cli.parser().parse_args([*words, "--help"])
    return said.getvalue()


@cache
def known_flags() -> dict[str, set[str]]:
    """Of each command, by its help; "" is the program itself."""
    names = re.findall(r"^    (\w+)(?: |$)", help_of(), re.MULTILINE)
    assert "render" in names
    return {"": set(FLAG.findall(help_of()))} | {name: set(FLAG.findall(help_of(name))) for name in names}


def flags_in_source(*paths: str) -> set[str]:
    """Flags of a program whose parser is made inside its main()."""
    return {flag for path in paths for flag in re.findall(r'add_argument\(\s*"(--[a-z-]+)"', read(ROOT / path))}


# The WebUI's, pip's, FizzNodes' --neg, and reForge's.
OTHERS = {"--api", "--api-auth", "--gradio-auth", "--listen", "--hide-ui-dir-config", "--gradio-allowed-path", "--neg",
          "--no-deps", "--always-gpu", "--always-no-vram", "--torch-compile"}
MAINS = ("training/__main__.py", "training/motion_lora.py", "benchmarks/__main__.py")


def test_flags_in_the_docs_exist():
    known = set().union(*known_flags().values(), flags_in_source(*MAINS), OTHERS)
    wrong = {page.name: unknown for page in PAGES
             if page.name != "performance.md" and (unknown := set(FLAG.findall(read(page))) - known)}
    assert not wrong


def test_commands_and_flags_that_exist_are_in_the_docs():
    page = DOCS / "cli.md"
    headings = {text.replace("`", "") for _, text in HEADING.findall(prose(page))}
    assert {f"animatediff {name}" for name in known_flags() if name} <= headings
    assert set().union(*known_flags().values()) <= set(FLAG.findall(read(page)))


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for language, block in FENCE.findall(read(page)):
            if language in ("", "bash"):
                lines = block.replace("\\\n", " ").splitlines()
                found += [(page.name, m[1]) for line in lines
                          if (m := re.search(r"(?:^|&& |=\S+ )animatediff (.+)", line))]
    return found


def test_commands_in_the_docs_are_accepted(capsys):
    wrong, found = [], commands()
    for page, line in found:
        words = shlex.split(line, comments=True)
        try:
            arguments = cli.parser().parse_args(words)
            if words[0] == "render":
                table.parse(table.from_namespace(arguments))
        except (SystemExit, SettingsError) as error:
            wrong.append(f"{page}: {line}: {capsys.readouterr().err or error}")
    assert found and not wrong


def test_every_parameter_is_explained():
    page = read(DOCS / "parameters.md")
    assert not [p.name for p in PARAMETERS if f"\n### `{p.name}`\n" not in page]


# The two front pages.


def test_readme_has_the_two_commands_first():
    blocks = [block for _, block in FENCE.findall(read(ROOT / "README.md"))]
    assert blocks[:2] == [f"{RENDER}\n", f"{TEST}\n"]
    before = read(ROOT / "README.md").split("```")[0]
    assert "docs/images/demo.gif" in before and len(before.splitlines()) < 25


def test_readme_shows_what_the_first_command_prints():
    """The settings are the defaults of today, apart from the prompt, the ending of --out,
    the seed drawn and the model's size."""
    [line] = re.findall(r"^Settings: (.+)$", read(ROOT / "README.md"), re.MULTILINE)
    arguments = cli.parser().parse_args(["render", *shlex.split(line)])
    shown = table.parse({**table.from_namespace(arguments), "prompt": arguments.prompt})
    expected = Settings(prompt="a red circle moving right", seed=shown.seed, formats=("GIF",), frames=16, size="64x64")
    assert shown == expected and shown.frames == Settings().frame_count()


def test_the_japanese_page_is_the_same_page():
    english, japanese = read(ROOT / "README.md"), read(ROOT / "README.ja.md")
    assert [h[0] for h in HEADING.findall(prose(ROOT / "README.ja.md"))] == \
        [h[0] for h in HEADING.findall(prose(ROOT / "README.md"))]
    assert [block for _, block in FENCE.findall(japanese)] == [block for _, block in FENCE.findall(english)]
    links = [link.split("#")[0] for link in LINK.findall(japanese)]
    assert sorted(links) == sorted("README.md" if link == "README.ja.md" else link.split("#")[0]
                                   for link in LINK.findall(english))


# Links.


def slug(heading: str) -> str:
    """A heading's anchor, as code forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in {slug(text) for _, text in HEADING.findall(prose(target))})


def test_links_lead_somewhere():
    wrong = [(page.name, link) for page in PAGES for link in LINK.findall(prose(page))
             if "://" not in link and not leads_somewhere(page, link)]
    assert not wrong


def test_every_page_is_linked_from_the_readme():
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= set(LINK.findall(read(ROOT / "README.md")))


# Facts that pages state.

OPTIONS = {"overlap": "overlap", "stride": "stride", "schedule": "schedule",
           "closed loop": "closed_loop", "step": "step"}


def drawn(title: str) -> list[str]:
    """The diagram that a title such as "frames 16, context 8, stride 2" asks for."""
    (_, frames), (_, context), *rest = [part.rsplit(" ", 1) if not part.startswith("schedule") else part.split(" ", 1)
                                        for part in title.split(", ")]
    options = {OPTIONS[name]: value if name in ("schedule", "closed loop") else int(value) for name, value in rest}
    plan = windows.plan(int(frames), int(context), **options)
    return [f"{''.join('■' if i in window else '·' for i in range(int(frames)))}  {window[0]}–{window[-1]}"
            for window in plan]


def test_windows_are_drawn_as_they_are():
    diagrams = [block.split("\n", 1) for _, block in FENCE.findall(read(DOCS / "context-windows.md"))
                if block.startswith("frames ")]
    assert diagrams and not [title for title, drawing in diagrams if drawing.splitlines() != drawn(title)]


def test_motion_modules_names_every_kind():
    from animatediff.motion import FAMILIES
    from animatediff.weights.kinds import KINDS

    page = read(DOCS / "motion-modules.md")
    for name in (*FAMILIES, *(kind.name for kind in KINDS)):
        assert name.removesuffix(" checkpoint") in page


def test_formats_states_the_qualities():
    page, options = read(DOCS / "formats.md"), WriteOptions()
    for fact in (f"crf {options.mp4_crf}", f"crf {options.webm_crf}", f"quality {options.webp_quality}"):
        assert fact in page


def test_exit_codes_are_in_the_docs():
    from animatediff import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)} | \
        {0, cli.INTERRUPTED, cli.UNEXPECTED}
    assert codes == {int(n) for n in re.findall(r"^\| (\d+) \|", read(DOCS / "cli.md"), re.MULTILINE)}


def test_the_model_card_has_the_trainings_numbers():
    import torch

    from animatediff.motion import build
    from training import image, motion, text, tokenizer, vae

    page = read(DOCS / "demo-model.md")
    flags = r'"(--(?:seed|rank|[a-z-]*clips|[a-z]+-steps))", type=int, default=(\d+)'
    for flag, value in re.findall(flags, "".join(map(read, (ROOT / main for main in MAINS)))):
        assert f"| `{flag}` | {value} |" in page, flag
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = tokenizer.write(Path(folder))
    assert f"{vocabulary} tokens" in page
    with torch.device("meta"):
        parts = {"VAE": vae.build(), "Text encoder": text.build(vocabulary), "UNet": image.build(),
                 "Motion module": build(image.WIDTHS, "v2", frames=motion.POSITIONS)}
    for name, part in parts.items():
        numbers = sum(tensor.numel() for tensor in part.state_dict().values() if tensor.is_floating_point())
        assert re.search(rf"^\| {name} \|.*\| {numbers:,} \|$", page, re.MULTILINE), f"{name}: {numbers:,}"


if __name__ == "__main__":
    for name in TABLES:
        (DOCS / name).write_text(renewed(name), encoding="utf-8")
