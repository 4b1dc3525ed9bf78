PYTHON ?= python3
ROS_WHEELS ?= jazzy
MODALITY ?= rgbt
MINUTES ?= 10
# Twice as many workers as cores, for tests of the node mostly wait; at most 16, for each holds the libraries.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? 2 * n : 16)))
# Each ROS 2 distribution has a virtual environment of its own: the modules have the same names.
VENV := $(if $(filter jazzy,$(ROS_WHEELS)),.venv,.venv-$(ROS_WHEELS))
RUN := $(VENV)/bin/python

# Every process of the tests would compile the packages anew, and every worker the tests.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup:  ## make the environment (the other commands do it themselves); ROS_WHEELS=jazzy|kilted
	@$(PYTHON) tools/environment/setup.py --venv $(VENV) --wheels $(ROS_WHEELS)

demo: setup  ## track through a recording on the real node; MODALITY=rgbd|rgbt|rgbe
	@$(RUN) -m sdstrack_ros.cli demo --modality $(MODALITY)

lint: setup  ## ruff, codespell and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(VENV)/bin/codespell
	@$(RUN) -m mypy

# One thread per worker: the workers fill the cores. Should one crash, pytest-xdist names its test and starts another.
test: lint  ## lint and pytest; ARGS=what pytest is to do instead of everything
	@OMP_NUM_THREADS=1 $(RUN) -m pytest $(or $(ARGS),-n $(WORKERS))

test-all: lint  ## the same with every test in its long form, and the soak; MINUTES=10
	@SDSTRACK_LONG=1 OMP_NUM_THREADS=1 $(RUN) -m pytest --timeout=3600
	@$(RUN) -m tools.soak --minutes $(MINUTES) --parts soak

bench: setup  ## speed, as ratios; BENCH=part OUT=file.json
	@$(RUN) -m benchmarks $(BENCH) $(if $(OUT),--out $(OUT))

# On a machine with a GPU, whatever Python has PyTorch, OpenCV and ONNX Runtime there; no ROS. What is done is kept in OUT.
bench-gpu:  ## every network by every engine of a GPU, in 8 minutes, into docs/benchmarks.md; goes on where it stopped
	@$(or $(wildcard $(RUN)),$(PYTHON)) -m benchmarks.gpu --page docs/benchmarks.md $(if $(OUT),--out $(OUT))

soak: setup  ## faults, fuzzing, endurance, in their long forms; MINUTES=10, or HOURS=2.5: endurance alone, continued
	@$(RUN) -m tools.soak $(if $(HOURS),--hours $(HOURS),--minutes $(MINUTES))

fuzz: setup  ## coverage-guided fuzzing of every parser; MINUTES=10 of CPU time for each
	@$(RUN) -m tools.fuzz --minutes $(MINUTES)

# SDSTRACK_MATERIAL: see docs/training.md; TEACHER: the folder of NanoTrack v2's two ONNX files.
TEACHER ?= $(SDSTRACK_MATERIAL)/baselines/nanotrack/nanotrackv2
weights: setup  ## train the default weights again (hours; goes on where it was stopped; needs SDSTRACK_MATERIAL)
	@$(RUN) -m sdstrack_ros.cli label config/train/first_sdstrack_m256.yaml --teacher $(TEACHER)
	@for name in first default; do \
	  $(RUN) -m sdstrack_ros.cli cache config/train/$${name}_sdstrack_m256.yaml --teacher $(TEACHER) || exit 1; \
	done
	@$(RUN) -m sdstrack_ros.cli train --resume config/train/first_sdstrack_m256.yaml
	@for name in sdstrack_m256 sdstrack_s128 ckd_s128; do \
	  for verb in "train --resume" choose ship; do \
	    $(RUN) -m sdstrack_ros.cli $$verb config/train/default_$$name.yaml || exit 1; \
	  done; \
	done

clean:  ## remove environments, caches and outputs
	rm -rf .venv .venv-* .cache build install log out *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup demo lint test test-all bench bench-gpu weights soak fuzz clean
.DEFAULT_GOAL := help
