"""Random use of a store against a plain model of what it promises: both agree after every step."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from afterwards._domain.tasks import FINAL, AttemptState, Claim, TaskState
from afterwards.errors import LeaseLost
from contract.conftest import open_sqlite
from contract.hand import NOW, Hand, chain, new_task

WORKERS = ("w1", "w2")


@dataclass
class Task:
    """What the model knows of a task."""

    id: str
    priority: int
    max_interruptions: int
    on_error: str
    after: str | None = None
    state: TaskState = TaskState.QUEUED
    run_at: int = NOW
    worker: str | None = None
    attempts: list[AttemptState] = field(default_factory=list)
    failures: int = 0
    interruptions: int = 0
    story: list[str] = field(default_factory=list)

    def move(self, state: TaskState) -> None:
        self.state = state
        self.story.append(state.value)


class Model(RuleBasedStateMachine):
    """The rules of a store, in Python that anyone can check by reading."""

    open_store = staticmethod(open_sqlite)

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        stores = [self.open_store(Path(self.folder.name)) for _ in WORKERS]
        self.hands = {worker: Hand(store, worker) for worker, store in zip(WORKERS, stores, strict=True)}
        for hand in self.hands.values():
            hand.register()
        self.tasks: list[Task] = []  # in order of acceptance
        self.claims: list[Claim] = []  # every claim ever made, lost ones too
        self.now = NOW

    def teardown(self):
        for hand in self.hands.values():
            hand.store.close()
        self.folder.cleanup()

    def hand(self, worker):
        self.hands[worker].now = self.now
        return self.hands[worker]

    def by_id(self, id):
        return next(task for task in self.tasks if task.id == id)

    def ended(self, task):
        """What the end of a task does to those behind it."""
        behind = [other for other in self.tasks if other.after == task.id and other.state is TaskState.WAITING]
        stop = task.on_error == "stop" and task.state is not TaskState.SUCCEEDED
        for other in behind:
            if stop:
                other.on_error = "stop"
                other.move(TaskState.CANCELLED)
                self.ended(other)
            else:
                other.move(TaskState.QUEUED)

    @rule(
        length=st.integers(1, 4),
        priority=st.integers(-1, 1),
        stop=st.booleans(),
        max_interruptions=st.integers(0, 2),
        delay=st.sampled_from([0, 0, 5]),
    )
    def accept(self, length, priority, stop, max_interruptions, delay):
        on_error = "stop" if stop else "continue"
        values = {"priority": priority, "on_error": on_error, "max_interruptions": max_interruptions}
        values |= {"created_at": self.now, "run_at": self.now}
        new = chain(*[{}] * length, **values)
        if length == 1 and delay:
            new = [new_task(**values | {"run_at": self.now + delay, "state": TaskState.SCHEDULED})]
        self.hand("w1").add(*new)
        for task in new:
            known = Task(task.id, priority, max_interruptions, on_error, task.after, run_at=task.run_at)
            known.move(task.state)
            self.tasks.append(known)

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(0, 3))
    def claim(self, worker, limit):
        claims = self.hand(worker).claim(limit)

        for task in self.tasks:
            if task.state in (TaskState.SCHEDULED, TaskState.RETRYING) and task.run_at <= self.now:
                task.move(TaskState.QUEUED)
        ready = [task for task in self.tasks if task.state is TaskState.QUEUED]
        ready.sort(key=lambda task: -task.priority)  # stable: acceptance decides among equals
        assert [claim.id for claim in claims] == [task.id for task in ready[:limit]]
        for task, claim in zip(ready, claims, strict=False):
            task.attempts.append(AttemptState.RUNNING)
            task.worker = worker
            task.move(TaskState.RUNNING)
            assert claim.attempt == len(task.attempts)
        self.claims += claims

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), state=st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED, TaskState.RETRYING]))
    def settle(self, data, state):
        claim = data.draw(st.sampled_from(self.claims))
        task = self.by_id(claim.id)
        holds = task.state is TaskState.RUNNING and claim.attempt == len(task.attempts)
        hand = self.hand(data.draw(st.sampled_from(WORKERS)))
        values = {"run_at": self.now + 3} if state is TaskState.RETRYING else {}

        if not holds:
            with pytest.raises(LeaseLost):
                hand.settle(claim, state, **values)
            return
        hand.settle(claim, state, **values)
        succeeded = state is TaskState.SUCCEEDED
        task.attempts[-1] = AttemptState.SUCCEEDED if succeeded else AttemptState.FAILED
        task.failures += not succeeded
        task.run_at = values.get("run_at", task.run_at)
        task.worker = None
        task.move(state)
        if state in FINAL:
            self.ended(task)

    @rule(worker=st.sampled_from(WORKERS), stopped=st.booleans(), asker=st.sampled_from(WORKERS))
    def rescue(self, worker, stopped, asker):
        if stopped:
            self.hand(worker).stopping()
        rescued = self.hand(asker).rescue(worker)
        self.hand(worker).register()

        held = [task for task in self.tasks if task.worker == worker and task.state is TaskState.RUNNING]
        assert sorted(one.id for one in rescued) == sorted(task.id for task in held)
        for task in held:
            task.worker = None
            released = stopped and task.max_interruptions > 1  # at most once: it may have begun
            task.attempts[-1] = AttemptState.RELEASED if released else AttemptState.INTERRUPTED
            task.interruptions += not released
            quarantined = not released and task.interruptions >= task.max_interruptions
            task.move(TaskState.QUARANTINED if quarantined else TaskState.QUEUED)
            if quarantined:
                self.ended(task)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def run_again(self, data):
        task = data.draw(st.sampled_from(self.tasks))

        answer = self.hand("w1").run_again(task.id)

        if task.state in FINAL:
            task.failures = task.interruptions = 0
            task.run_at = self.now
            task.move(TaskState.QUEUED)
        assert answer is task.state

    @rule(steps=st.integers(1, 4))
    def time_passes(self, steps):
        self.now += steps

    @invariant()
    def both_agree(self):
        for hand in self.hands.values():
            store = hand.store
            stories: dict[str, list[str]] = {task.id: [] for task in self.tasks}
            for event in store.events(0, limit=100_000):
                stories[event.task].append(event.data["state"])
            for task in self.tasks:
                row = hand.task(task.id)
                assert (row.state, row.worker) == (task.state, task.worker)
                assert (row.attempt, row.failures) == (len(task.attempts), task.failures)
                assert (row.interruptions, row.run_at) == (task.interruptions, task.run_at)
                assert (row.finished_at is not None) == (task.state in FINAL)
                assert [attempt.state for attempt in store.attempts(task.id)] == task.attempts
                assert stories[task.id] == task.story
            counted = [task.state.value for task in self.tasks]
            assert store.counts() == {state: counted.count(state) for state in set(counted)}


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
