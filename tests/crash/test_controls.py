"""The harness must find out servers that lose tasks, or its silence about ours means nothing."""

from crash.harness import Harness


def test_the_frameworks_own_background_tasks_are_found_out(new_harness):
    """They die with their process: that is why this project exists."""
    harness: Harness = new_harness("crash.forgetful:app")
    for _ in range(3):
        harness.kill_under_load()
        if harness.judge(stored=False, patience=0).lost:
            break
    harness.start()

    verdict = harness.judge(stored=False, patience=0.5)

    assert verdict.lost, verdict


def test_an_answer_before_the_commit_is_found_out(new_harness):
    """Faster by one flush of the disk, and a lie."""
    harness: Harness = new_harness("crash.hasty:app")
    for _ in range(3):
        harness.kill_under_load()
    harness.app = "crash.program:app"
    harness.start()

    verdict = harness.judge()

    assert verdict.lost, verdict
