"""Language models as graders: rubrics of yes-or-no criteria and comparisons in both orders, by one judge or a panel.

`beforehand` grades what no judge should see, `quote` and `prompts` ask, `verdict` reads the reply, `panel` puts several judges
together, `rubric` and `pairs` make grades of it, and `trust` says whether a calibration allows to train on them. What a judge is
worth is measured: docs/judges.md.
"""
