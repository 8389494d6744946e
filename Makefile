PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo install test test-all test-gpu check matrix benchmarks benchmark-gpu

demo: install ## the whole pipeline on the built-in images
	$(BIN)/wsss-orch launch --method lpcam+amn

install: .venv/installed ## the project and its tools in .venv

# pydensecrf2 asks for a Cython that is too old for Python 3.13; newer ones compile it too
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt setuptools cython
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps --no-build-isolation pydensecrf2
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: install ## the fast tests, whole runs, runs that are killed and resumed, what starts processes, devices, the tutorial and the examples
	$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile
	$(BIN)/pytest -m slow tests/test_end_to_end.py tests/test_kill_and_resume.py tests/test_loading.py tests/test_failures.py tests/test_pipeline.py tests/contracts/test_devices.py tests/test_tutorial.py tests/test_examples.py

test-all: install ## everything but what needs a GPU
	$(BIN)/pytest -m 'not gpu'

test-gpu: install ## on a machine with a GPU, in under five minutes: it must train and extract as a CPU does
	$(BIN)/pytest -m gpu

check: install ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy orchestrator methods refiners segmentation maps training imagesets backbones clustering metrics benchmarks examples

matrix: install ## docs/matrix.md: which components go together
	$(BIN)/python -c 'from orchestrator.reading.matrix_page import page; print(page(), end="")' > docs/matrix.md

benchmarks: demo ## each computation and the published procedure; the start-up times need the store of the demo (a few others need a commit, a store or a GPU)
	for file in $(filter-out benchmarks/gpu%.py benchmarks/same_losses.py benchmarks/seed_thresholds.py,$(wildcard benchmarks/*.py)) benchmarks/published; do $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

benchmark-gpu: install ## on a machine with a GPU, in some minutes: every stage beside its bare network
	$(BIN)/python -m benchmarks.gpu
