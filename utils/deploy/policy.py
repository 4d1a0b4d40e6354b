"""A trained policy for a program of one's own. It needs this file, JAX and NumPy alone.

    policy = Policy.load('policies/cube')
    policy.reset(seed=0)
    action = policy.act(observation)

`scripts/export_policy.py` writes the folder that is loaded, with a copy of this file in it:

- `program.mlir`: the compiled form of acting that JAX can read on a CPU, a CUDA GPU and a TPU;
- `parameters.npz`: the numbers that it reads;
- `policy.json`: where they come from, their sizes, and the digests of both.

Faults raise a `ValueError` of one line, which names the thing and the remedy.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

RECORD, PROGRAM, PARAMETERS = 'policy.json', 'program.mlir', 'parameters.npz'
FORMAT = 1
PLATFORMS = ('cpu', 'cuda', 'tpu')
LARGEST_SEED = 2**32 - 1

# (observations (n, observation_dim), seeds (n,), chunks (n,)) -> (n, h, action_dim) in [-1, 1].
Decide = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Policy:
    """Acts, an observation at a time; a decision is a chunk of `chunk_length` actions.

    What it does follows from the seed and the observations alone. Seed `e` draws the random numbers
    of episode `e` of the run's evaluations.

    Attributes:
        record: what `policy.json` says.
    """

    def __init__(self, decide: Decide, record: Mapping[str, Any]):
        """Makes a policy of a function; see `load` for one of a folder.

        Args:
            decide: chooses chunks; see `Policy.decide`.
            record: with `observation_dim` and, if actions were mapped, `action_map`.
        """
        self.record = record
        self._decide = decide
        self.reset(0)

    @classmethod
    def load(cls, folder: str | Path, **temperatures: float) -> 'Policy':
        """Loads an exported policy and compiles it for one observation.

        Args:
            folder: of `policy.json`.
            **temperatures: in place of the record's, e.g. `tau_q=0.0`.

        Raises:
            ValueError: a file is missing, damaged or of another version, there is no such
                temperature, or this JAX cannot run it.
        """
        folder = Path(folder).expanduser()
        record = read_record(folder)
        temperatures = _temperatures(folder, record, temperatures)
        parameters = _read_parameters(folder, record)
        code = _read(folder / PROGRAM, record['files'][PROGRAM])
        _check_platform(folder, record['platforms'])
        try:
            policy = cls(_compiled(record, code, parameters, temperatures), record)
            policy.decide(np.zeros((1, record['observation_dim'])), np.zeros(1), np.zeros(1))
        except Exception as error:  # JAX has no class of its own for what it cannot run
            raise ValueError(_cannot_run(folder, record, error)) from error
        return policy

    def reset(self, seed: int) -> None:
        """Starts an episode: what was queued is dropped.

        Raises:
            ValueError: the seed is no whole number from 0 to 2^32 - 1.
        """
        if not 0 <= seed <= LARGEST_SEED or seed != int(seed):
            raise ValueError(f'seed: expected a whole number from 0 to 2^32 - 1, not {seed}')
        self._seed, self._chunk = int(seed), 0
        self._queue: list[np.ndarray] = []

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Returns the next action, (action_dim,) float32, in the units of the recorded data.

        The first call and every `chunk_length`-th after it decide; those in between return what
        was decided, whatever the observation.

        Args:
            observation: (observation_dim,), as the environment gives it.

        Raises:
            ValueError: it has another shape, or a number that is not finite.
        """
        observation = np.asarray(observation, np.float32)[None]
        self._check(observation)
        if not self._queue:
            where = np.array([self._seed]), np.array([self._chunk])
            [chunk] = denormalise(self.decide(observation, *where), self.record.get('action_map'))
            self._queue, self._chunk = list(chunk), self._chunk + 1
        return self._queue.pop(0)

    def decide(self, observations: np.ndarray, seeds: np.ndarray, chunks: np.ndarray) -> np.ndarray:
        """Decides for many at once, without a queue: (n, h, action_dim) in [-1, 1], not mapped.

        How many rows are given changes a row by rounding alone.

        Args:
            observations: (n, observation_dim).
            seeds: (n,) of the rows' episodes.
            chunks: (n,) how many chunks of its episode each row had before.

        Raises:
            ValueError: observations have another shape, or a number that is not finite.
        """
        observations = np.asarray(observations, np.float32)
        self._check(observations)
        return self._decide(observations, np.asarray(seeds), np.asarray(chunks))

    def _check(self, observations: np.ndarray) -> None:
        expected = self.record['observation_dim']
        if observations.ndim != 2 or observations.shape[1] != expected:
            raise ValueError(
                f'observation: expected {expected} numbers, not shape {observations.shape[1:]}; '
                f'give what {self.record["env_name"]} observes'
            )
        if not np.isfinite(observations).all():
            raise ValueError('observation: has numbers that are not finite; check the sensors')


def denormalise(actions: np.ndarray, action_map: Mapping[str, Any] | None) -> np.ndarray:
    """Returns (..., action_dim) actions in the units that were recorded, as float32.

    Args:
        actions: in [-1, 1].
        action_map: lists `offset` and `scale`, a number for each of an action's; None: no map.
    """
    if action_map is None:
        return np.array(actions, np.float32)
    offset, scale = (np.asarray(action_map[name], np.float64) for name in ('offset', 'scale'))
    return (offset + scale * np.asarray(actions, np.float64)).astype(np.float32)


def signature(record: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple:
    """Returns shapes and types of the program's arguments, for any number `n` of rows.

    Those are parameters, observations (n, observation_dim), seeds (n,), chunks (n,), and every
    temperature, (n,).
    """
    [n] = export.symbolic_shape('n')
    numbers = jax.ShapeDtypeStruct((n,), jnp.uint32)
    return (
        {name: jax.ShapeDtypeStruct(of.shape, of.dtype) for name, of in parameters.items()},
        jax.ShapeDtypeStruct((n, record['observation_dim']), jnp.float32),
        numbers,
        numbers,
        dict.fromkeys(record['temperatures'], jax.ShapeDtypeStruct((n,), jnp.float32)),
    )


def digest_of_record(record: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of what a record says beside its own digest."""
    told = {name: value for name, value in record.items() if name != 'digest'}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what `policy.json` says.

    Raises:
        ValueError: it is missing, damaged, or of another version.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f'{folder}: no policy here ({RECORD} is missing); export it again')
    try:
        record = json.loads(path.read_text())
        whole = record['digest'] == digest_of_record(record)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f'{path}: damaged; copy the folder again')
    if record['format'] != FORMAT:
        raise ValueError(
            f'{path}: has format {record["format"]}, but this policy.py reads {FORMAT}; take the '
            'policy.py that lies beside it'
        )
    return record


def _read(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f'{path}: cannot be read ({error.strerror}); copy it again') from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f'{path}: damaged (its SHA-256 is another); copy the folder again')
    return content


def _read_parameters(folder: Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    content = _read(folder / PARAMETERS, record['files'][PARAMETERS])
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        narrow = [name for name in arrays if arrays[name].dtype == np.float16]
        return dict(arrays) | {name: arrays[name].astype(np.float32) for name in narrow}


def _temperatures(
    folder: Path, record: Mapping[str, Any], changes: Mapping[str, float]
) -> dict[str, np.float32]:
    known = record['temperatures']
    for name, value in changes.items():
        if name not in known:
            raise ValueError(
                f'{name}: {folder} has no such temperature; it has {", ".join(known) or "none"}'
            )
        if not float(value) >= 0.0:
            raise ValueError(f'{name}: a temperature is at least 0, not {value}')
    # Strict JSON has no infinity: it is text there.
    return {name: np.float32(value) for name, value in {**known, **changes}.items()}


def _check_platform(folder: Path, platforms: list[str]) -> None:
    try:
        jax.devices()
        found = export.default_export_platform()
    except (RuntimeError, AssertionError):  # one was asked for that is not installed
        found = 'none'
    if found not in platforms:
        raise ValueError(
            f'{folder}: runs on {", ".join(platforms)}, but JAX finds {found}; '
            'set JAX_PLATFORMS=cpu, or install JAX for one of these'
        )


def _compiled(
    record: Mapping[str, Any],
    code: bytes,
    parameters: Mapping[str, np.ndarray],
    temperatures: Mapping[str, np.float32],
) -> Decide:
    """Returns the program as a function of observations, seeds and chunks."""
    call = jax.jit(_exported(record, code, parameters).call)
    parameters = jax.device_put(parameters)

    def decide(observations: np.ndarray, seeds: np.ndarray, chunks: np.ndarray) -> np.ndarray:
        own = {name: np.full(len(seeds), value) for name, value in temperatures.items()}
        numbers = seeds.astype(np.uint32), chunks.astype(np.uint32)
        return np.asarray(call(parameters, observations, *numbers, own))

    return decide


def _exported(
    record: Mapping[str, Any], code: bytes, parameters: Mapping[str, np.ndarray]
) -> export.Exported:
    """Returns the program as JAX calls it.

    JAX's own file of an exported function needs one more package to be read, for the signature
    alone. That is known here: a function of the same signature lends it to the program.
    """
    shape, convention = (record['chunk_length'], record['action_dim']), record['calling_convention']
    low = export.minimum_supported_calling_convention_version
    high = export.maximum_supported_calling_convention_version
    if not low <= convention <= high:
        raise ValueError(f'it has calling convention {convention}, and this JAX {low} to {high}')

    def stand_in(parameters, observations, *_):
        return jnp.zeros((observations.shape[0], *shape), jnp.float32)

    arguments = signature(record, parameters)
    lent = export.export(jax.jit(stand_in), platforms=tuple(record['platforms']))(*arguments)
    return dataclasses.replace(
        lent,
        fun_name='act',
        mlir_module_serialized=code,
        calling_convention_version=convention,
        module_kept_var_idx=tuple(record['kept_arguments']),
        uses_global_constants=True,
    )


def _cannot_run(folder: Path, record: Mapping[str, Any], error: Exception) -> str:
    reason, writer = ' '.join(str(error).split())[:200], record['versions']['jax']
    return (
        f'{folder}: JAX {jax.__version__} cannot run it here ({reason or type(error).__name__}); '
        f'JAX {writer} wrote it: install that or a later one, or export the run by this one'
    )
