# `make run` and `make test` each set up everything they need on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
SYSTEM := postgresql tesseract-ocr espeak-ng poppler-utils chromium chromium-driver fonts-dejavu-core fonts-liberation fonts-freefont-ttf fonts-noto-core

.PHONY: run test slow check system clean

# The main job: every sample becomes a record. Exit code 3 is expected: one sample is broken.
run: .venv/run
	$(BIN)/flows run extract --input samples/ --output out/samples || test $$? -eq 3
	$(BIN)/flows run clean --input samples/letter-noisy.txt --output out/clean
	$(BIN)/flows run repair --input samples/dictation.txt --output out/repair
	for made in samples clean repair; do $(BIN)/flows show --output out/$$made || exit; done

test: .venv/test
	$(BIN)/pytest -m "not slow"

slow: .venv/test
	$(BIN)/pytest -m slow

check: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy model_onnx export pipelines flows training benchmarks

# Optional programs and fonts; the tests that need them skip with a reason without them.
system:
	apt-get update && apt-get install -y --no-install-recommends $(SYSTEM)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# torch first: without the exact version pip would fetch gigabytes of CUDA libraries.
.venv/test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv out build *.egg-info
