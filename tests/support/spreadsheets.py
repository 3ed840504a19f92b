"""Files of spreadsheets, made without a library: as an office program writes them, and as nobody should."""

import io
import zipfile
from base64 import b85decode
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape
from zlib import decompress

from mailerd.mail.spreadsheet import Sheet
from mailerd.mail.spreadsheet_child import FileReading

_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006/relationships"
_ODS: Final = "urn:oasis:names:tc:opendocument:xmlns"
_FORMATS: Final = (0, 14, 22, 20, 46, 10)
"""Excel's built-in number formats, by their place: general, date, date and time, time, span, percent."""


def xlsx(sheets: Mapping[str, Sequence[Sequence[Any]]], *, hidden: Sequence[str] = ()) -> bytes:
    """A workbook with these rows in its sheets: texts, numbers, truths, None. A text that begins with "<" is a cell."""
    return xlsx_of({name: "".join(map(_row, range(1, len(rows) + 1), rows)) for name, rows in sheets.items()}, hidden)


def xlsx_of(sheets: Mapping[str, str], hidden: Sequence[str] = (), **more: bytes) -> bytes:
    """A workbook whose sheets have this XML. `more`: files beside them, "/" as "__" in their names."""
    names = [*sheets]
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="r{n}"{' state="hidden"' * (name in hidden)}/>'
        for n, name in enumerate(names, 1)
    )
    relations = "".join(_relation(f"r{n}", "worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(names) + 1))
    formats = "".join(f'<xf numFmtId="{each}"/>' for each in _FORMATS)
    files: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": _relations(_relation("r", "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(relations + _relation("s", "styles", "styles.xml")),
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs>{formats}</cellXfs></styleSheet>',
        **{name.replace("__", "/"): content for name, content in more.items()},
    }
    for number, rows in enumerate(sheets.values(), 1):
        files[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData></worksheet>'
        )
    return zipped(files)


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of these files."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def _relations(inner: str) -> str:
    return f'<Relationships xmlns="{_PACKAGE}">{inner}</Relationships>'


def _relation(id_: str, kind: str, target: str) -> str:
    return f'<Relationship Id="{id_}" Type="{_DOCUMENT}/{kind}" Target="{target}"/>'


def _row(number: int, cells: Sequence[Any]) -> str:
    return f'<row r="{number}">{"".join(f"{_cell(cell)}" for cell in cells)}</row>'


def _cell(cell: Any) -> str:
    match cell:
        case None:
            return "<c/>"
        case bool():
            return f'<c t="b"><v>{int(cell)}</v></c>'
        case float() | int():
            return f"<c><v>{cell}</v></c>"
        case _:
            text = str(cell)
            if text.startswith("<"):
                return text
            return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(text)}</t></is></c>'


def ods(rows: Sequence[Sequence[str | float]], *, more: str = "") -> bytes:
    """A sheet of OpenDocument, called People. `more`: XML behind its rows."""
    made = "".join(f"<table:table-row>{''.join(map(_ods_cell, row))}</table:table-row>" for row in rows)
    spaces = " ".join(f'xmlns:{each}="{_ODS}:{each}:1.0"' for each in ("office", "table", "text"))
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    return zipped({
        "mimetype": kind,
        "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{_ODS}:manifest:1.0"/>',
        "content.xml": f"<office:document-content {spaces}><office:body><office:spreadsheet>"
        f'<table:table table:name="People">{made}{more}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>",
    })  # fmt: skip


def _ods_cell(cell: str | float) -> str:
    if isinstance(cell, str):
        return f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p></table:table-cell>'
    return f'<table:table-cell office:value-type="float" office:value="{cell}"/>'


XLS: Final = decompress(b85decode(
    "c-rk)O=uHA6#izLG(R-Ira~)}P_Sxk1@Ypg-6*X+r9=<@A!yp}p)@}wcu+4^YmS28N%2ys2QO7G{-A>1JO~vP1VKpj=t)rU&}Mz_Wfzi)(10ye=3"
    "C~Qw{PCeyxsYqx6850!o%(=)?gTIsM!IuH|P|Ffcp{!rQ0@(ZtSOEYiub5{M3-`UOWrE@o^h+dskuLf#(%5@P)z|%woJ)u#%gI!{S3$u@6JU3U^2"
    "oMwfUM7oHT}CVXEkp9`l%b6t3dY%A(Cmd)}0gHA6#Y4l237+mgS$@57x`_YNl+>0;YP<2}`4wa^}xh<B^<LSU6s6of9f>q-82<{>XoFWXS(}N=;6"
    "(p#!7xB|h0zceQ{W7Wbo2yqK{jX-d?=N~kHR4+RO~V7s!9FL0q)eSU;HeMfj8&Y?Su14EU7Ld!7|my=b0Hv`vMyxvl)i7Wm=E&AE)zktX(9;80O="
    "r}LPX@4loKUSR_=X&m!8O&XGJq7lYf1Q*vTHj#ud&%nZuG|2)9w_7kRJnRVj6c$lbyT@{;1dOs69pnHQUDlG;c091y%WcQwenNiKgo`lP4))!ak!"
    "(pdFUV(Fu~fL>a%rYJu@^B7PA>h>+hQ`3!=Go5@E?)qbD@f%U++iYhYj9`@q6Cozd7D~RZ*+Pj0^9!njJ&5D@2ZMBB`6I(d9FOG3q#BmlAT%^IG&"
    "D3cG&D3e2+G--^Tym$KO)H1-{;)xtWv1yYm)yK$55o_JRK58QJ}bli!Jq^?eHqMEVa%&?tLNS1l3-`3?{^nnU?!69o<yp_pCc(^xqAkR_m{|;^zj"
    "}{~KfT&fW"
))  # fmt: skip
"""A workbook of Excel 97 with the sheet People: "Email" in A1; a@example.com, 2026-12-01 and 3.0 in row 2."""


def sheet_of(content: bytes) -> Sheet:
    """What is read of a file, in this process."""
    reading, rows, numbers = FileReading(content, sheet=None, encoding=None), list[list[str]](), list[int]()
    more = True
    while more:
        answer = reading.next()
        rows, numbers, more = rows + answer["rows"], numbers + answer["numbers"], answer["more"]
    return Sheet(rows, numbers, **reading.head)
