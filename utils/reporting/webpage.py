"""One HTML page that fetches nothing: tables, figures and details, every text escaped.

Every function returns a part, which `page` puts together; report.html.j2 has their HTML.
"""

import base64
import struct
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

import jinja2
from markupsafe import Markup

from utils.csv_lines import Source, spans
from utils.reporting.tables import Table, note_numbers

HERE = Path(__file__).parent
# Nothing but what the page holds itself is ever loaded, and no script runs.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MEDIA = {'.png': 'image/png', '.webp': 'image/webp'}
PIXELS_PER_INCH = 125  # of figures on a screen, so that their letters are as large as the text's

# Returns how the path of a file is shown.
Shown = Callable[[Path], str]


@cache
def _html() -> ModuleType:
    """Returns the macros, as functions of the parts of a page."""
    loader = jinja2.FileSystemLoader(HERE)
    kind = dict(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return jinja2.Environment(loader=loader, **kind).get_template('report.html.j2').module


def cite(sources: Iterable[Source], shown: Shown) -> str:
    """Returns sources as 'FILE: LINES', one a line."""
    return '\n'.join(
        f'{shown(file)}: {spans(lines)}' if lines else shown(file) for file, lines in sources
    )


def table(content: Table, shown: Shown) -> Markup:
    """Returns a table: its title, grid, remarks and notes.

    A cell with sources has them as its attribute `data-source`, as `cite` writes them.
    """
    marks = note_numbers(content)
    return _html().table(content, marks, lambda sources: cite(sources, shown), content.name)


def figure(content: Table, picture: Path, shown: Shown) -> Markup:
    """Returns a picture, what its table says of it, and the table itself behind a click."""
    drawn = image(picture, f'{content.title}; its numbers are in the table below.')
    numbers = table(content._replace(remarks=()), shown)
    return _html().figure(drawn, content.title, content.remarks, numbers)


def episode(animation: Path, strip: Path, name: str) -> Markup:
    """Returns an episode: moving, and in six pictures."""
    moving = image(animation, f'Animation of {name}')
    still = image(strip, f'The same from start to end, in six pictures: {name}')
    return _html().episode(moving, still, name)


def image(path: Path, description: str) -> Markup:
    """Returns a picture that the page itself holds."""
    content, size = path.read_bytes(), None
    if path.suffix == '.png':
        # The header of a PNG file: its width, its height, and further on pixels per metre.
        scale = PIXELS_PER_INCH / _pixels_per_inch(content)
        size = [round(scale * pixels) for pixels in struct.unpack('>II', content[16:24])]
    data = base64.b64encode(content).decode('ascii')
    return _html().image(data, MEDIA[path.suffix], description, size)


def _pixels_per_inch(png: bytes) -> float:
    """As a PNG file says it; that of the screen, if it says nothing."""
    position = png.find(b'pHYs')
    if position < 0:
        return PIXELS_PER_INCH
    (per_metre,) = struct.unpack('>I', png[position + 4 : position + 8])
    return per_metre * 0.0254


def details(summary: str, parts: Iterable[Markup]) -> Markup:
    """Returns parts behind a click on a summary."""
    return _html().details(summary, Markup('').join(parts))


def absent(text: str) -> Markup:
    """Returns a remark that something is not here, and why."""
    return _html().absent(text)


def heading(text: str) -> Markup:
    """Returns a heading within a section."""
    return _html().heading(text)


def paragraph(text: str) -> Markup:
    """Returns a paragraph."""
    return _html().paragraph(text)


def code(text: str) -> Markup:
    """Returns lines to be copied."""
    return _html().code(text)


def page(title: str, sections: dict[str, list[Markup]]) -> str:
    """Returns the whole page.

    Args:
        title: of the page.
        sections: their parts, by heading.
    """
    style = Markup((HERE / 'report.css').read_text(encoding='utf-8'))
    return str(_html().page(title, sections, style, POLICY))
