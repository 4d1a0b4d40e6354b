"""One HTML page that fetches nothing: tables, figures and details, every text escaped."""

import base64
import html
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from utils.csv_lines import Source, spans
from utils.reporting.tables import Cell, Table, note_numbers

STYLE = Path(__file__).with_name('report.css')
# Nothing but what the page holds itself is ever loaded, and no script runs.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MEDIA = {'.png': 'image/png', '.webp': 'image/webp'}
PIXELS_PER_INCH = 125  # of figures on a screen, so that their letters are as large as the text's
WORDS = 28  # letters, from which a cell may be broken

# Returns how the path of a file is shown.
Shown = Callable[[Path], str]


def escape(text: object) -> str:
    """Returns text that means itself in HTML, also within quotes."""
    return html.escape(str(text), quote=True)


def cite(sources: Iterable[Source], shown: Shown) -> str:
    """Returns sources as 'FILE: LINES', one a line."""
    return '\n'.join(
        f'{shown(file)}: {spans(lines)}' if lines else shown(file) for file, lines in sources
    )


def table(content: Table, shown: Shown) -> str:
    """Returns a table: its title, grid, remarks and notes.

    A cell with sources has them as its attribute `data-source`, as `cite` writes them.
    """
    numbers = note_numbers(content)

    def mark(note: str) -> str:
        target = escape(f'{content.name}-note-{numbers[note]}')
        return f'<sup><a href="#{target}">[{numbers[note]}]</a></sup>'

    def show(cell: Cell, kind: str) -> str:
        text = f'<b>{escape(cell.text)}</b>' if cell.bold and cell.text else escape(cell.text)
        # A note without anything to note, such as on a blank bound, stays below.
        text += mark(cell.note) if cell.note and cell.text else ''
        words = ' class="words"' if len(cell.text) > WORDS else ''
        cited = f' data-source="{escape(cite(cell.sources, shown))}"' if cell.sources else ''
        return f'<{kind}{words}{cited}>{text}</{kind.split()[0]}>'

    header = ''.join(f'<th scope="col">{escape(column)}</th>' for column in content.columns)
    body = '\n'.join(
        f'<tr>{show(row[0], "th scope=row")}{"".join(show(cell, "td") for cell in row[1:])}</tr>'
        for row in content.rows
    )
    notes = (
        f'<li id="{escape(content.name)}-note-{number}">[{number}] {escape(note)}</li>'
        for note, number in numbers.items()
    )
    remarks = [*(f'<li>{escape(text)}</li>' for text in content.remarks), *notes]
    name = escape(content.name)
    return (
        f'<h3 id="{name}-title">{escape(content.title)}</h3>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-title">\n'
        f'<table id="{name}" aria-labelledby="{name}-title">\n'
        f'<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n'
        f'{_list(remarks)}'
    )


def figure(content: Table, picture: Path, shown: Shown) -> str:
    """Returns a picture, what its table says of it, and the table itself behind a click."""
    remarks = _list([f'<li>{escape(text)}</li>' for text in content.remarks])
    plain = content._replace(remarks=())
    return (
        f'<figure>\n{image(picture, f"{content.title}; its numbers are in the table below.")}\n'
        f'<figcaption><b>{escape(content.title)}.</b>{remarks}</figcaption>\n'
        f'{details("The numbers", table(plain, shown))}</figure>\n'
    )


def image(path: Path, description: str) -> str:
    """Returns a picture that the page itself holds."""
    content = path.read_bytes()
    data = base64.b64encode(content).decode('ascii')
    size = ''
    if path.suffix == '.png':
        # The header of a PNG file: its width, its height, and further on pixels per metre.
        width, height = struct.unpack('>II', content[16:24])
        scale = PIXELS_PER_INCH / _pixels_per_inch(content)
        size = f' width="{round(scale * width)}" height="{round(scale * height)}"'
    return f'<img{size} alt="{escape(description)}" src="data:{MEDIA[path.suffix]};base64,{data}">'


def _pixels_per_inch(png: bytes) -> float:
    """As a PNG file says it; that of the screen, if it says nothing."""
    position = png.find(b'pHYs')
    if position < 0:
        return PIXELS_PER_INCH
    (per_metre,) = struct.unpack('>I', png[position + 4 : position + 8])
    return per_metre * 0.0254


def details(summary: str, content: str) -> str:
    """Returns content (HTML) behind a click on a summary (text)."""
    return f'<details><summary>{escape(summary)}</summary>\n{content}</details>\n'


def absent(text: str) -> str:
    """Returns a remark that something is not here, and why."""
    return f'<p class="absent">{escape(text)}</p>\n'


def paragraph(text: str) -> str:
    """Returns a paragraph."""
    return f'<p>{escape(text)}</p>\n'


def code(text: str) -> str:
    """Returns lines to be copied."""
    return f'<pre><code>{escape(text)}</code></pre>\n'


def page(title: str, sections: dict[str, str]) -> str:
    """Returns the whole page.

    Args:
        title: of the page.
        sections: content (HTML) by heading (text).
    """
    names = {heading: f'section-{number}' for number, heading in enumerate(sections, 1)}
    links = ''.join(
        f'<li><a href="#{name}">{escape(heading)}</a></li>' for heading, name in names.items()
    )
    body = '\n'.join(
        f'<section id="{names[heading]}">\n<h2>{escape(heading)}</h2>\n{content}</section>'
        for heading, content in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding="utf-8")}</style>\n'
        f'</head>\n<body>\n<header><h1>{escape(title)}</h1>\n<nav><ul>{links}</ul></nav></header>\n'
        f'<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


def _list(items: list[str]) -> str:
    return f'<ul class="remarks">{"".join(items)}</ul>\n' if items else ''
