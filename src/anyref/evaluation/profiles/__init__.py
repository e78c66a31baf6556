"""How a suite makes figures of scores: which frames, which means, which totals.

profile    the arithmetic all of them share, as data
strict     ours: a missing video counts as the worst score, nothing drops out
opens2v    OpenS2V-Eval v1.0 and v1.1; `opens2v_files` its result files and leaderboards,
           `opens2v_motion` its motion amplitude
vbench     VBench and VBench-I2V
magref     the evaluation of the MAGREF paper; `score_tables` the files its scores are read from
suite_metrics  what suites measure without models, measured as they do
"""
