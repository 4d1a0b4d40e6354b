# Two commands do everything: `make demo` and `make test`. Each makes its own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo demo-cube watch test test-all test-slurm lint lock clean

demo: $(STAMP)
	$(BIN)/python scripts/demo.py --out=demo

# Longer: a robot arm, six numbers of candidates.
demo-cube: $(STAMP)
	$(BIN)/python scripts/demo.py --out=demo_cube --env_name=cube-single-play-singletask-task1-v0 \
		--config=evor_small --offline_steps=15000 --eval_episodes=50 --n_pi=1,2,4,8,16,32

# Plays a trained agent of the repository and draws it.
watch: $(STAMP)
	$(BIN)/python scripts/watch.py --policy=results/agents/scene --out=watch

test: $(STAMP) lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not long'

# Also what takes long: training to known returns, the README's commands, runs that are killed.
test-all: $(STAMP) lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Trains on a SLURM cluster of this machine alone; needs slurm-wlm, and takes a while.
test-slurm: $(STAMP)
	$(BIN)/python -m tests.slurm.array

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(STAMP): requirements.lock
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
		--only-binary=:all: -r requirements.lock
	touch $(STAMP)

# Resolves requirements-dev.txt anew, for every supported Python at once. dm_control asks for labmaze,
# which nothing here uses and which has no wheel for Python 3.13.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-emit-package labmaze --custom-compile-command 'make lock' \
		--output-file requirements.lock requirements-dev.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) demo demo_cube watch
