"""pipelines/textlayer.py: what other readers find in the PDFs, and what stays as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from PIL import Image, ImageCms
from pypdf import PdfReader

from pipelines.ocr import find_tesseract
from pipelines.textlayer import read_words_plain, write_plain
from tests.papers import LETTER, pdf, raw_pdf, scan

ARCHIVED = Path(__file__).parents[1].parent / "shared" / "data" / "pdfs" / "crazyones-pdfa.pdf"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/" pdfaid:part="2" '
    'pdfaid:conformance="U"/></rdf:RDF></x:xmpmeta>'
)
WORDS = [
    ["ACME", [0.1, 0.1, 0.3, 0.15]],
    ["Größe", [0.35, 0.1, 0.5, 0.15]],
    ["שלום", [0.55, 0.1, 0.7, 0.15]],
    ["漢字", [0.1, 0.2, 0.3, 0.25]],
    ["𝒳e\u0301", [0.35, 0.2, 0.5, 0.25]],
    ["(12-34", [0.1, 0.8, 0.4, 0.85]],
]
TEXTS = [text for text, _ in WORDS]


def written(path: Path, *pages: Any, expected: int = 1) -> Path:
    plan, out = path.with_suffix(".plan"), path.with_name(f"{path.name}.out.pdf")
    plan.write_text(json.dumps(pages))
    assert write_plain(str(path), str(plan), str(out)) == expected
    return out


def page(turned: int = 0) -> dict[str, Any]:
    return {"turned": turned, "words": WORDS}


def blank(path: Path, rotation: int = 0, frame: str = "") -> Path:
    """A scanned page: a picture and no text."""
    with pymupdf.open() as document:
        made = document.new_page(width=400, height=300)
        made.draw_rect((40, 40, 100, 60), fill=(0, 0, 0))
        for key in filter(None, frame.split("/")):
            name, _, value = key.partition(" ")
            document.xref_set_key(made.xref, name, value)
        made.set_rotation(rotation)
        document.save(path)
    return path


def boxes(path: Path) -> dict[str, tuple[float, ...]]:
    """Word -> its box as MuPDF finds it, in fractions of the page as it is shown."""
    with pymupdf.open(path) as document:
        shown = document[0]
        document.xref_set_key(shown.xref, "UserUnit", "null")  # its rotation matrix forgets it
        shown = document[0]
        size = (shown.rect.width, shown.rect.height) * 2
        found = {}
        for x0, y0, x1, y1, text, *_ in shown.get_text("words"):
            box = pymupdf.Rect(x0, y0, x1, y1) * shown.rotation_matrix
            found[text] = tuple(value / of for value, of in zip(box.normalize(), size, strict=True))
    return found


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize(
    "frame",
    [
        "",
        "CropBox [50 20 350 280]",
        "MediaBox [100 -50 500 250]",
        "MediaBox [100 50 500 350]/CropBox [150 70 400 300]",
        "UserUnit 2",
    ],
)
def test_words_are_found_where_they_stand(tmp_path: Path, rotation: int, frame: str) -> None:
    out = written(blank(tmp_path / "a.pdf", rotation, frame), page())
    found = boxes(out)
    for text, box in WORDS:
        name = text if text != "𝒳e\u0301" else "𝒳é"
        assert found.get(text, found.get(name)) == pytest.approx(box, abs=0.02), text


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_words_of_a_page_that_was_turned_stand_on_the_page_as_it_is(
    tmp_path: Path, turned: int
) -> None:
    found = boxes(written(blank(tmp_path / "a.pdf"), page(turned)))
    x0, y0, x1, y1 = WORDS[0][1]
    back = {
        90: (y0, 1 - x1, y1, 1 - x0),
        180: (1 - x1, 1 - y1, 1 - x0, 1 - y0),
        270: (1 - y1, x0, 1 - y0, x1),
    }[turned]
    assert found["ACME"] == pytest.approx(back, abs=0.02)


def test_another_reader_extracts_every_script(tmp_path: Path) -> None:
    out = written(blank(tmp_path / "a.pdf"), page())
    reader = PdfReader(out, strict=True)
    assert reader.pages[0].extract_text().split() == TEXTS


@pytest.mark.skipif(
    not shutil.which("pdftotext"), reason="needs pdftotext: apt-get install poppler-utils"
)
def test_poppler_extracts_every_script(tmp_path: Path) -> None:
    out = written(blank(tmp_path / "a.pdf"), page())
    done = subprocess.run(["pdftotext", out, "-"], capture_output=True, text=True, check=True)
    assert not done.stderr
    marks = str.maketrans("", "", "\u200e\u200f\u202a\u202b\u202c\x0c")
    assert sorted(done.stdout.translate(marks).split()) == sorted(TEXTS)


def test_nothing_is_seen_of_it(tmp_path: Path) -> None:
    path = blank(tmp_path / "a.pdf")
    with pymupdf.open(path) as one, pymupdf.open(written(path, page())) as two:
        assert one[0].get_pixmap().samples == two[0].get_pixmap().samples


def test_the_originals_bytes_come_first_and_do_not_change(tmp_path: Path) -> None:
    path = blank(tmp_path / "a.pdf")
    before = path.read_bytes()
    after = written(path, page()).read_bytes()
    assert path.read_bytes() == before and after.startswith(before) and len(after) > len(before)
    assert after == written(path, page()).read_bytes()


def test_pages_without_a_plan_stay_and_a_file_without_one_is_a_copy(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", "text of its own", "more")
    assert written(path, None, None, expected=0).read_bytes() == path.read_bytes()
    reader = PdfReader(written(path, None, page()))
    assert reader.pages[0].extract_text().split() == ["text", "of", "its", "own"]
    assert "ACME" in reader.pages[1].extract_text()


def test_inherited_and_shared_resources_keep_what_they_hold(tmp_path: Path) -> None:
    content = "<</Length 40>>stream\nq 2 0 0 2 0 0 cm BT /F1 9 Tf (x) Tj ET  \nendstream"
    path = tmp_path / "a.pdf"
    path.write_bytes(
        raw_pdf(
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2/MediaBox[0 0 400 300]"
            "/Resources<</Font<</F1 6 0 R>>>>>>",
            "<</Type/Page/Parent 2 0 R/Contents 5 0 R>>",
            "<</Type/Page/Parent 2 0 R/Contents 5 0 R>>",
            content,
            "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        )
    )
    reader = PdfReader(written(path, None, page()))
    assert reader.pages[0].extract_text().split() == ["x"]
    assert reader.pages[1].extract_text().split() == ["x", *TEXTS]


def test_a_circle_of_pages_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(
        raw_pdf(
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 400 300]/Parent 2 0 R>>",
            "<</Type/Page/Parent 2 0 R>>",
        )
    )
    try:
        written(path, page())
    except Exception as error:  # an error is as good as a file
        assert "circle" in str(error) or "cycle" in str(error).lower()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 5])
def test_a_photo_is_upright_and_a_jpeg_keeps_its_bytes(tmp_path: Path, orientation: int) -> None:
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[20:60, 30:90] = (200, 30, 30)
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, dpi=(150, 150))
    out = written(path, page())
    from pipelines.documents import read_page

    upright = read_page(str(path), 1).rgb()
    with pymupdf.open(out) as document:
        shown = document[0].get_pixmap(matrix=pymupdf.Matrix(150 / 72, 150 / 72))
        seen = np.frombuffer(shown.samples, np.uint8).reshape(shown.height, shown.width, 3)
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < 3
    assert boxes(out)["ACME"] == pytest.approx(WORDS[0][1], abs=0.02)
    if orientation != 5:
        [image] = PdfReader(out).pages[0].images
        assert image.data[:2] == b"\xff\xd8" and path.read_bytes()[-500:] in out.read_bytes()


def test_a_tiff_of_two_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    one, two = (Image.fromarray(scan(line)) for line in ("one", "two"))
    one.save(path, save_all=True, append_images=[two])
    reader = PdfReader(written(path, None, page()))
    assert len(reader.pages) == 2 and reader.pages[0].extract_text() == ""
    assert reader.pages[1].extract_text().split() == TEXTS


def test_a_standard_for_archives_is_kept(tmp_path: Path) -> None:
    """What PDF/A asks of a change: the font is embedded with a map to Unicode, its widths agree,
    no glyph is missing, and metadata, intents and the file's identity stay."""
    with pymupdf.open(blank(tmp_path / "plain.pdf")) as document:
        document.set_xml_metadata(XMP)
        document.save(tmp_path / "a.pdf")
    before = PdfReader(tmp_path / "a.pdf")
    after = PdfReader(written(tmp_path / "a.pdf", page()), strict=True)
    assert after.xmp_metadata is not None and after.trailer["/ID"] == before.trailer["/ID"]
    assert after.xmp_metadata.stream.get_data() == before.xmp_metadata.stream.get_data()  # type: ignore[union-attr]
    fonts: Any = after.pages[0]["/Resources"]["/Font"]
    [font] = [fonts[name] for name in fonts]
    [descendant] = font["/DescendantFonts"]
    descendant = descendant.get_object()
    assert font["/Encoding"] == "/Identity-H" and "/ToUnicode" in font
    assert descendant["/FontDescriptor"]["/FontFile2"]["/Length1"] > 0
    glyphs = descendant["/CIDToGIDMap"].get_data()
    assert glyphs and not glyphs[1::2].replace(b"\1", b"") and descendant["/DW"] == 500


@pytest.mark.parametrize("resources", ["7 0 R", "<</Font 6 0 R>>"])
def test_fonts_may_be_an_object_of_their_own(tmp_path: Path, resources: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(
        raw_pdf(
            "<</Type/Catalog/Pages 2 0 R>>",
            "<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 400 300]>>",
            f"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources {resources}>>",
            "<</Length 36>>stream\nBT /F1 20 Tf 20 20 Td (own) Tj ET    \nendstream",
            "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
            "<</F1 5 0 R>>",
            "<</Font 6 0 R>>",
        )
    )
    assert PdfReader(written(path, page())).pages[0].extract_text().split() == ["own", *TEXTS]


def catalog(path: Path) -> str:
    with pymupdf.open(path) as document:
        return str(document.xref_object(document.pdf_catalog()))


def output_profiles(path: Path) -> list[bytes]:
    intents: Any = PdfReader(path).root_object.get("/OutputIntents", [])
    profiles = [intent.get_object().get("/DestOutputProfile") for intent in intents]
    return [profile.get_object().get_data() for profile in profiles if profile]


def check_archived(path: Path) -> None:
    """The copy begins with the archived file's bytes, and nothing that they say is said anew."""
    original = path.read_bytes()
    out = written(path, page())
    assert path.read_bytes() == original
    assert out.read_bytes().startswith(original) and out.stat().st_size > len(original)
    assert catalog(out) == catalog(path)
    assert output_profiles(out) == output_profiles(path) != []
    appended = out.read_bytes()[len(original) :]
    assert b"/OutputIntents" not in appended and b"pdfaid" not in appended
    before, after = PdfReader(path).xmp_metadata, PdfReader(out).xmp_metadata
    assert before and after and before.stream.get_data() == after.stream.get_data()


def test_an_archived_files_metadata_and_output_intents_stay_byte_for_byte(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with pymupdf.open(blank(tmp_path / "plain.pdf")) as document:
        document.set_xml_metadata(XMP)
        stream = document.get_new_xref()
        document.update_object(stream, "<</N 3>>")
        document.update_stream(stream, profile)
        intent = "/Type/OutputIntent/S/GTS_PDFA1/OutputConditionIdentifier(sRGB)"
        intents = f"[<<{intent}/DestOutputProfile {stream} 0 R>>]"
        document.xref_set_key(document.pdf_catalog(), "OutputIntents", intents)
        document.save(tmp_path / "a.pdf")
    assert output_profiles(tmp_path / "a.pdf") == [profile]
    check_archived(tmp_path / "a.pdf")


@pytest.mark.skipif(not ARCHIVED.is_file(), reason=f"{ARCHIVED.name} is not there")
def test_a_real_archived_file_keeps_its_bytes(tmp_path: Path) -> None:
    shutil.copyfile(ARCHIVED, tmp_path / "a.pdf")
    check_archived(tmp_path / "a.pdf")


def test_only_pages_without_text_are_to_be_written(tmp_path: Path) -> None:
    assert read_words_plain(str(pdf(tmp_path / "a.pdf", "\n".join(LETTER))), 1)["own"]
    assert not read_words_plain(str(blank(tmp_path / "b.pdf")), 1)["own"]


@pytest.mark.skipif(not find_tesseract(), reason="tesseract is not installed")
def test_a_scan_becomes_searchable(tmp_path: Path) -> None:
    from dataclasses import asdict

    from pipelines.pages import PageOptions

    path = tmp_path / "a.png"
    Image.fromarray(scan(*LETTER)).save(path)
    read = read_words_plain(str(path), 1, asdict(PageOptions(tesseract=find_tesseract())))
    text = " ".join(PdfReader(written(path, read)).pages[0].extract_text().split())
    assert "amount of 120.50" in text
