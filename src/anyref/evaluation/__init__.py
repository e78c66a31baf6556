"""Evaluation: benchmarks, metrics, the suites' own arithmetic, and statistics.

benchmark   cases to make videos for; `videos` finds the videos of a results folder
metric      what a metric is: `Metric`, `Score`, `Skipped`
results     scoring a folder, cached per video; `ScoreTable`
profiles    how a suite samples frames and makes totals of scores, its defects included
published   the figures that suites and papers print
statistics  intervals, paired comparison, how many cases are needed
"""
