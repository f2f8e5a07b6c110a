"""The state machine against its drawing."""

from __future__ import annotations

from modelpress.spec.state import FINAL_STATES, TRANSITIONS, JobState


def test_the_transitions_are_those_of_the_drawing() -> None:
    drawn = {
        ("queued", "running"),  # b
        ("running", "succeeded"),  # c
        ("running", "failed"),  # c
        ("running", "cancelling"),  # d
        ("queued", "cancelled"),  # e
        ("failed", "queued"),  # f
        ("cancelled", "queued"),  # f
        ("running", "queued"),  # g
        ("cancelling", "cancelled"),  # h
        ("queued", "failed"),  # i
        ("queued", "succeeded"),  # j
    }
    assert {(before.value, after.value) for before, afters in TRANSITIONS.items() for after in afters} == drawn


def test_every_state_has_its_transitions_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(JobState)
    reached = {JobState.QUEUED}
    while more := {after for state in reached for after in TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(JobState)


def test_a_final_state_is_left_only_by_a_retry() -> None:
    assert {state for state in JobState if state.final} == FINAL_STATES
    for state in FINAL_STATES:
        assert TRANSITIONS[state] <= {JobState.QUEUED}
    for state in set(JobState) - FINAL_STATES:
        assert TRANSITIONS[state], f"{state} would never end"


def test_every_state_can_come_to_an_end() -> None:
    for start in JobState:
        seen, ahead = set(), {start}
        while ahead:
            seen |= ahead
            ahead = {after for state in ahead for after in TRANSITIONS[state]} - seen
        assert seen & FINAL_STATES, start
