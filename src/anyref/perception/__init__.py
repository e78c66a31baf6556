"""Perception models behind contracts: small ones that packages ship, large ones for a GPU.

`contracts` says what each role takes and gives. `small.small_grade` makes the models of the small
grade (CPU, one thread, no network after `sources.fetch`), and one file per role holds them.
`large.large_grade` puts larger ones of the Hugging Face hub in their places (`large_*.py`).
"""
