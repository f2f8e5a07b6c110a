"""Answers that are problem documents."""

from __future__ import annotations

import httpx

from modelpress.spec.resources import Problem


def read_problem(response: httpx.Response, status: int, slug: str) -> Problem:
    """The problem document of an answer, which must be of this kind."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert problem.type == f"/problems/{slug}"
    assert problem.status == status
    assert problem.title
    assert problem.detail
    assert problem.request_id == response.headers["x-request-id"]
    return problem
