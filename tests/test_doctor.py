"""flows/doctor.py: is the installation sound?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows import doctor


def test_our_packages_are_ours() -> None:
    for name in doctor.PACKAGES:
        assert doctor.find_package(name, []).good
        assert doctor.find_package(name, ["scanscribe"]).good


def test_a_stranger_with_our_name_is_found() -> None:
    finding = doctor.find_package("flows", ["flows", "scanscribe"])
    assert finding.good is False and "pip uninstall flows" in finding.text
    assert "reinstall" in doctor.find_package("json", []).text
    assert doctor.find_package("no_such_module", []).good is False


def test_exactly_one_onnxruntime() -> None:
    assert doctor.find_onnxruntime(["numpy"]).text.startswith("numpy ")
    two = doctor.find_onnxruntime(["onnxruntime", "onnxruntime-gpu"])
    assert two.good is False and "expected exactly one" in two.text
    assert doctor.find_onnxruntime([]).good is False


def test_what_is_optional_is_never_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor.find_tesseract().good is None
    assert "scanscribe[parquet]" in doctor.find_extra("no_such_module", "parquet").text


@pytest.mark.parametrize(
    ("there", "good", "words"),
    [
        ((), None, "no NVIDIA driver"),
        (("libcuda.so.1",), False, "scanscribe[cuda]"),
        (("libcuda.so.1", "shared.so", "cuda.so"), True, "libraries load"),
    ],
)
def test_cuda_is_there_or_not_and_why(
    there: tuple[str, ...],
    good: bool | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import onnxruntime

    monkeypatch.setattr(doctor, "_loads", lambda library: library.endswith(there))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("noise"), raising=False)
    finding = doctor.find_cuda()
    assert finding.good is good and words in finding.text and not capsys.readouterr().out
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "built without" in doctor.find_cuda().text


def test_a_program_that_does_not_start_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tesseract"
    program.write_text("not a program")
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    assert doctor.find_tesseract().good is False


def test_memory_is_read() -> None:
    assert "GiB" in doctor.find_memory().text


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    finding = doctor.find_bundle(tmp_path)
    assert finding.good is False and "bundle.json" in finding.text
