"""Small models that packages ship, behind contracts that larger ones can fill too.

`contracts` says what each role takes and gives, `small.small_grade` makes the models of this grade
(CPU, one thread, no network after `sources.fetch`), and one file per role holds them.
"""
