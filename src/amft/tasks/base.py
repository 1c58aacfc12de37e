"""What a task is: problems, prompts, grading and demonstrations. Pure Python, no torch, no I/O, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from ..types import Answer, Grade, Message, Problem


@runtime_checkable
class Task(Protocol):
    """A task with verifiable answers. Everything is a function of its arguments: same seed, same problems.

    A task is a frozen dataclass; its fields are its options. The class docstring is the task's datasheet: state,
    prompt, answer format, outcomes and rewards, splits, metrics, differences from the original, version history.
    A change of behaviour is a new id. `amft.tasks.check.check_task` tries all of this out.

    Optional: the class variable `seen_splits` names the test splits that repeat training problems on purpose;
    `grading_seconds` is the longest that one grade may take, if the task cannot keep to the usual 2 s.
    """

    id: ClassVar[str]
    """Versioned, for example `general_points-v1`."""
    splits: ClassVar[Mapping[str, str]]
    """Split name -> what it holds, in one line. `train`, `meta` and `val` are for training and selection."""
    test_splits: ClassVar[tuple[str, ...]]
    """Splits reported before and after training, the headline one first."""

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems of a split (None: each key once), drawn with `seed`.

        Raises:
            TaskError: the split does not exist.
        """
        ...

    def prompt(self, problem: Problem) -> list[Message]:
        """The conversation that asks for the answer; a picture, if any, is a part of its first message."""
        ...

    def grade(self, problem: Problem, answer: str) -> Grade:
        """The verdict on raw model text. Never raises, never runs the text, bounded time.

        An answer that could not be judged gets `types.abstain`.
        """
        ...

    def demonstrate(self, problem: Problem) -> str:
        """An expert's answer; it always grades as correct."""
        ...


@runtime_checkable
class BatchGrader(Protocol):
    """What a task has besides if it grades many answers at once, for example in parallel processes."""

    def grade_many(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Grade]:
        """The grades of answer i to problem i, the same as `grade`'s one by one.

        A task may bound the abstentions among neighbouring answers to one problem: those beyond are not paid.
        """
        ...


@runtime_checkable
class Grouper(Protocol):
    """What a task has besides if it has figures of several problems together, of a route and not of its points."""

    def group_figures(
        self, problems: Sequence[Problem], solved: Sequence[bool], attempts: Sequence[int]
    ) -> dict[str, float]:
        """Figures by name, from problems in the order of `problems`, each solved or not in so many answers."""
        ...


@runtime_checkable
class KnownAnswer(Protocol):
    """What a task has besides if every problem has one right answer, in one wording."""

    def right_answer(self, problem: Problem) -> str:
        """The answer; it grades as correct. Its probability can be measured (`eval.answer_probability`)."""
        ...


@runtime_checkable
class Demonstrator(Protocol):
    """What a task has besides if it demonstrates other problems than those of `train`: fewer, or easier ones."""

    def demonstrated(self, *, seed: int, n: int) -> list[Problem]:
        """The problems that are demonstrated, `n` of them or fewer."""
        ...


def demonstrated(task: Task, *, seed: int, n: int) -> list[Problem]:
    """The problems of a task's demonstrations: its own choice, or `n` of `train`."""
    return (
        task.demonstrated(seed=seed, n=n) if isinstance(task, Demonstrator) else task.problems("train", seed=seed, n=n)
    )


@runtime_checkable
class TriesTask(Task, Protocol):
    """A task that may be answered several times: after a wrong answer the next user message says so.

    The conversation is the prompt, then answer and feedback in turn. Nothing is remembered between calls: every
    verdict is a function of the problem and of all answers given so far.
    """

    @property
    def max_attempts(self) -> int:
        """Answers at most; 1 makes it an ordinary task."""
        ...

    def feedback(self, problem: Problem, answers: Sequence[str]) -> str | None:
        """The user's message after the last of the answers; None when the episode is over."""
        ...

    def grade_episode(self, problem: Problem, answers: Sequence[str]) -> Grade:
        """The verdict on all answers, at least one; of a single answer the same as `grade`'s."""
        ...


@runtime_checkable
class Reviser(TriesTask, Protocol):
    """What a task with several tries has besides if its demonstrations may begin with wrong answers, to be revised."""

    def mistakes(self, problem: Problem) -> list[str]:
        """Wrong answers, fewer than `max_attempts`, that come before the right one; none: it is right at once."""
        ...


def demonstration(task: Task, problem: Problem) -> tuple[list[Message], str]:
    """What is shown for imitation: a conversation, and the expert's answer to it.

    Mistakes and what was said to them belong to the conversation, so the answer alone is imitated.
    """
    asked: list[Message] = list(task.prompt(problem))
    if isinstance(task, Reviser):
        given: list[str] = []
        for wrong in task.mistakes(problem):
            given.append(wrong)
            said = task.feedback(problem, given)
            assert said is not None, "a mistake is wrong, and tries are left"
            asked += [{"role": "assistant", "content": wrong}, {"role": "user", "content": said}]
    return asked, task.demonstrate(problem)


def tries(task: Task) -> int:
    """Answers a task accepts at most in one episode."""
    return task.max_attempts if isinstance(task, TriesTask) else 1


def grade_all(task: Task, problems: Sequence[Problem], answers: Sequence[Answer]) -> list[Grade]:
    """One grade per answer, all at once where the task can; a list of answers is graded as an episode."""
    if isinstance(task, TriesTask) and task.max_attempts > 1:
        return [task.grade_episode(problem, given) for problem, given in zip(problems, map(_episode, answers))]
    texts = [str(answer) for answer in answers]
    if isinstance(task, BatchGrader):
        return task.grade_many(problems, texts)
    return [task.grade(problem, text) for problem, text in zip(problems, texts, strict=True)]


def _episode(answer: Answer) -> list[str]:
    return [answer] if isinstance(answer, str) else answer
