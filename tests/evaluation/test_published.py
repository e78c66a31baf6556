"""Every published total from its own columns.

The figures are printed with two decimals of a percentage (MAGREF: three of one), so a total of
rounded columns may be off by what the rounding of all of them adds up to.
"""

from __future__ import annotations

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.profiles.magref import magref
from anyref.evaluation.profiles.opens2v import WEIGHTS, opens2v
from anyref.evaluation.profiles.opens2v_files import read_leaderboard
from anyref.evaluation.published import published_rows

COUNTS = {
    ("v1.0", "Open-Domain"): 10,
    ("v1.0", "Human-Domain"): 19,
    ("v1.0", "Single-Domain"): 11,
    ("v1.1", "Open-Domain"): 11,
    ("v1.1", "Human-Domain"): 20,
    ("v1.1", "Single-Domain"): 11,
}
ROUNDING = {"v1.0": 0.012e-2, "v1.1": 0.008e-2}  # both ends rounded to 0.01 %
MISPRINT = ("v1.0", "Human-Domain", "EchoVideo")  # motion 35.16, the paper prints 35.76
MAGREF_TABLES = {
    "single-id": ("single-id", 13),
    "multi-subject": ("multi-subject", 7),
    "multi-subject-ablation-3": ("multi-subject", 3),
    "multi-subject-ablation-4": ("multi-subject", 4),
}


@pytest.mark.parametrize(("version", "domain"), WEIGHTS)
def test_leaderboard_totals_are_recomputed_from_their_columns(version, domain):
    profile = opens2v(version, domain)
    rows = published_rows(profile.name, domain)
    assert sum(row.evaluated_by != "DIAL" for row in rows) == COUNTS[version, domain]
    off = {
        row.model: profile.total(row.values) - row.total
        for row in rows
        if (version, domain, row.model) != MISPRINT
    }
    assert max(map(abs, off.values())) < ROUNDING[version], off
    assert all(row.is_published for row in rows)


def test_the_one_total_that_is_off_follows_from_the_papers_figure():
    profile = opens2v("v1.0", "Human-Domain")
    rows = {row.model: row for row in published_rows(profile.name, "Human-Domain")}
    row = rows["EchoVideo"]
    assert profile.total(row.values) - row.total == pytest.approx(-0.088e-2, abs=0.01e-2)
    mended = profile.total({**row.values, "motion_amplitude": 0.3576})
    assert mended == pytest.approx(0.5452, abs=0.012e-2)


@pytest.mark.parametrize("table", MAGREF_TABLES)
def test_magrefs_totals_are_plain_means(table):
    name, count = MAGREF_TABLES[table]
    profile = magref(name)
    rows = published_rows("magref", table)
    assert len(rows) == count
    assert [set(row.values) for row in rows] == [{c.name for c in profile.columns}] * count
    off = {row.model: profile.total(row.values) - row.total for row in rows}
    assert max(map(abs, off.values())) < 6e-4, off


def test_magrefs_own_rows_come_out_as_printed():
    for table, exact, printed in [
        ("single-id", 0.69425, 0.694),
        ("multi-subject", 0.62733, 0.627),
    ]:
        row = {row.model: row for row in published_rows("magref", table)}["MAGREF"]
        assert magref(table).total(row.values) == pytest.approx(exact, abs=5e-6)
        assert row.total == printed


def test_kaleidos_total_by_others_comes_out():
    rows = {row.model: row for row in published_rows("opens2v-v1.1", "Open-Domain")}
    kaleido = rows["Kaleido"]
    assert opens2v("v1.1", "Open-Domain").total(kaleido.values) == pytest.approx(0.56004, abs=5e-6)
    assert (kaleido.evaluated_by, kaleido.total) == ("DIAL", 0.56)


@pytest.mark.parametrize(("version", "domain"), WEIGHTS)
def test_the_published_files_say_what_we_print(leaderboards, version, domain):
    rows = read_leaderboard(leaderboards / f"opens2v_{version}_{domain}.csv", version, domain)
    assert len(rows) == COUNTS[version, domain]
    ours = published_rows(f"opens2v-{version}", domain)
    for row, kept in zip(rows, ours, strict=False):
        assert (row.model, row.evaluated_by, row.table) == (kept.model, kept.evaluated_by, domain)
        assert dict(row.values) == pytest.approx(dict(kept.values))
        assert row.total == pytest.approx(kept.total)
    assert all(row.source.startswith("https://") for row in rows)


def test_what_nobody_published_is_refused():
    with pytest.raises(EvaluationError, match="there are magref"):
        published_rows("vbench", "all")
