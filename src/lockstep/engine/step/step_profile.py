"""A profile of a few steps on every rank: a trace, and a table of what takes the most time."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lockstep.engine.run import Run
from lockstep.report import say, text_table
from lockstep.runs import PROFILE_FOLDER

NUM_ROWS = 20
"""Operations in the table."""
SECTIONS = ("data", "communication")
"""The sections of a step that `StepTimer` measures."""


class StepProfile:
    """Profiles the steps that `train.profile` names, if this start takes them, and writes what it found."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._steps = run.intervals.profiled_steps
        self._profile: profile | None = None
        self._first, self._began = 0, 0.0
        run.closing.callback(self.finish)  # of a run that ends or stops meanwhile, what there is

    def before_step(self, step: int) -> None:
        """Begins with the first step; steps are counted from 1."""
        if step not in self._steps or self._profile is not None:
            return
        activities = [ProfilerActivity.CPU]
        if self._run.ranks.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        else:
            # A level above all of them: torch built for CUDA reports that there is no GPU as an error.
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        with self._run.clock.paused():  # it takes a second to begin
            self._profile = profile(activities=activities, acc_events=True)  # torch 2.11 warns otherwise
            self._profile.start()
        self._run.timer.is_profiled = True
        self._first, self._began = step, time.perf_counter()

    def after_step(self, step: int) -> None:
        """Ends with the last step."""
        if self._profile is not None and step + 1 not in self._steps:
            with self._run.clock.paused():
                self.finish()

    def finish(self) -> None:
        """Writes rank-N.json, a trace for Perfetto or chrome://tracing, and rank-N.txt."""
        if self._profile is None:
            return
        run, profiled, self._profile = self._run, self._profile, None
        run.timer.is_profiled = False
        if run.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        seconds, num_steps = time.perf_counter() - self._began, run.step - self._first + 1
        profiled.stop()
        if num_steps < 1:
            return
        folder, name = run.folder / PROFILE_FOLDER, f"rank-{run.ranks.rank}"
        text = f"steps {self._first} to {run.step} on rank {run.ranks.rank}, profiled\n\n"
        text += summary(profiled.key_averages(), seconds, num_steps, on_cuda=run.ranks.device.type == "cuda")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            profiled.export_chrome_trace(str(folder / f"{name}.json"))
            (folder / f"{name}.txt").write_text(text)
        except (OSError, RuntimeError) as error:
            say(f"warning: the profile could not be written ({error})")
            return
        if run.ranks.is_main:
            say(f"profile of steps {self._first} to {run.step}: {folder}")


def summary(events: Any, seconds: float, num_steps: int, *, on_cuda: bool) -> str:
    """Where the time of a step went, and the operations that took most of it, as two tables.

    Args:
        events: the profiler's averages, by operation.
        seconds: of all steps together.
        num_steps: how many there were.
        on_cuda: whether a GPU computed; operations are then in the order of its time.
    """
    sections = {f"lockstep: {name}": name for name in SECTIONS}
    shares = {"step": seconds * 1e3}
    shares |= {sections[each.key]: each.cpu_time_total / 1e3 for each in events if each.key in sections}
    operations = [each for each in events if each.key not in sections]
    shares["host, operations"] = sum(each.self_cpu_time_total for each in operations) / 1e3
    if on_cuda:
        shares["GPU, operations"] = sum(each.self_device_time_total for each in operations) / 1e3
    rows = [[name, f"{total / num_steps:.3f}"] for name, total in shares.items()]
    by = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    costliest = sorted(operations, key=lambda each: getattr(each, by), reverse=True)[:NUM_ROWS]
    header = ["operation", "calls a step", "host ms a step", *(["GPU ms a step"] if on_cuda else [])]
    cells = [
        [
            each.key,
            f"{each.count / num_steps:.1f}",
            f"{each.self_cpu_time_total / 1e3 / num_steps:.3f}",
            *([f"{each.self_device_time_total / 1e3 / num_steps:.3f}"] if on_cuda else []),
        ]
        for each in costliest
    ]
    return f"{text_table(['time', 'ms a step'], rows)}\n{text_table(header, cells)}"
