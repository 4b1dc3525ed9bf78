PYTHON ?= python3
ROS_WHEELS ?= jazzy
MODALITY ?= rgbt
MINUTES ?= 10
# Each ROS 2 distribution has a virtual environment of its own: the modules have the same names.
VENV := $(if $(filter jazzy,$(ROS_WHEELS)),.venv,.venv-$(ROS_WHEELS))
RUN := $(VENV)/bin/python

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup:  ## make the environment (the other commands do it themselves); ROS_WHEELS=jazzy|kilted
	@$(PYTHON) tools/environment/setup.py --venv $(VENV) --wheels $(ROS_WHEELS)

demo: setup  ## track through a recording on the real node; MODALITY=rgbd|rgbt|rgbe
	@$(RUN) -m sdstrack_ros.cli demo --modality $(MODALITY)

lint: setup  ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

# Each part has a process of its own: one process for all ended in a segmentation fault of unknown cause in training.
test: lint  ## ruff, mypy, pytest; ARGS=what pytest is to do instead of everything
ifdef ARGS
	@$(RUN) -m pytest $(ARGS)
else
	@$(RUN) -m pytest test/ckd_core --ignore=test/ckd_core/training
	@$(RUN) -m pytest test/ckd_core/training
	@$(RUN) -m pytest test --ignore=test/ckd_core
endif

bench: setup  ## speed, as ratios; BENCH=part OUT=file.json
	@$(RUN) -m benchmarks $(BENCH) $(if $(OUT),--out $(OUT))

soak: setup  ## faults, fuzzing, endurance, in their long forms; MINUTES=10
	@$(RUN) -m tools.soak --minutes $(MINUTES)

weights: setup  ## train the default weights again (hours; goes on where it was stopped; needs the material that the recipes name)
	@for name in sdstrack_s128 ckd_s128; do \
	  for verb in "train --resume" choose ship; do \
	    $(RUN) -m sdstrack_ros.cli $$verb config/train/default_$$name.yaml || exit 1; \
	  done; \
	done

clean:  ## remove environments, caches and outputs
	rm -rf .venv .venv-* .cache build install log out *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup demo lint test bench weights soak clean
.DEFAULT_GOAL := help
