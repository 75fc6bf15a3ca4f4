"""From tasks to graded groups: a few short async steps that receive the generator and the grader."""
