"""Evaluation: benchmarks, metrics, the suites' own arithmetic, statistics, and reports.

benchmark   cases to make videos for; `shipped`, `lab_cases` and `anyref_120` those that come along
videos      which file of a results folder is the video of which case; `decoding` reads it once
metric      what a metric is: `Metric`, `Score`, `Skipped`; `metrics` has those of the small grade
results     scoring a folder, cached per video; `ScoreTable`; `stillness` takes back what it won
run         the same in many processes, and all figures; `ray_workers` on many machines
profiles    how a suite samples frames and makes totals of scores, its defects included
published   the figures that suites and papers print
statistics  intervals, paired comparison, how many cases are needed
baselines   videos that a benchmark has to put in their place
report      an evaluation as a page, with `plots` and `report_cases`; `run_files` the other files
"""
