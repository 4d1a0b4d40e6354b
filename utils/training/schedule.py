"""When something leaves the device during training."""

from typing import NamedTuple

# The progress bar moves this often; chunks may be cut anywhere without changing the result.
PROGRESS_STEPS = 500


class Schedule(NamedTuple):
    """When something leaves the device, in updates; an interval of 0 means never.

    Attributes:
        offline_steps: updates on offline data alone.
        log_interval, eval_interval, save_interval: between two log lines, evaluations, checkpoints.
        eval_episodes: of an evaluation.
        eval_envs: that play them at a time, at most.
        max_wait: seconds of updates between two looks at signals.
        overlaps: whether to evaluate and save on the host while training goes on.
        label: of the progress bar; '': the name of the config.
        online_steps: updates after those, with a step of the environment before each.
    """

    offline_steps: int
    log_interval: int
    eval_interval: int
    save_interval: int
    eval_episodes: int
    eval_envs: int
    max_wait: float
    overlaps: bool
    label: str = ''
    online_steps: int = 0

    @property
    def total_steps(self) -> int:
        """Updates in all."""
        return self.offline_steps + self.online_steps

    def next_stop(self, step: int) -> int:
        """Returns the next update after which there is something to do."""
        intervals = (PROGRESS_STEPS, self.log_interval, self.eval_interval, self.save_interval)
        stops = [(step // interval + 1) * interval for interval in intervals if interval]
        return min(*stops, self.end_after(step))

    def logs(self, step: int) -> bool:
        """Returns whether a log line is due."""
        return _is_due(step, self.log_interval)

    def evaluates(self, step: int) -> bool:
        """Returns whether an evaluation is due; the last of each part has one, if any has."""
        last = step in self._ends()
        return self.eval_interval > 0 and (last or _is_due(step, self.eval_interval))

    def saves(self, step: int) -> bool:
        """Returns whether a checkpoint is due; the last update of each part always has one."""
        return step in self._ends() or _is_due(step, self.save_interval)

    def end_after(self, step: int) -> int:
        """Returns where the part of the schedule ends that comes after `step`."""
        return next(end for end in self._ends() if end > step)

    def _ends(self) -> tuple[int, int]:
        return self.offline_steps, self.total_steps


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
