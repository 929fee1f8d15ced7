"""The benchmark of the command's start: what it starts answers, and a peer that is absent is told as absent."""

from __future__ import annotations

import subprocess

from benchmarks.cli import __main__ as bench


def test_what_is_measured_does_what_its_name_says(tmp_path):
    codes = {
        start.case: subprocess.run(
            start.words, cwd=tmp_path, capture_output=True, check=False, timeout=120
        ).returncode
        for start in bench.starts()
    }

    assert codes.pop("mlcore no-such-verb") == 2
    assert set(codes.values()) == {0}


def test_a_peer_that_is_not_installed_has_no_figure_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "PEERS", ("no-such-command",))
    monkeypatch.setattr(bench, "starts", lambda: (bench.Start("mlcore --help", ("true",), 0.35),))

    limit, peer = bench.rows_of(tmp_path, 1, goals=False)

    assert (limit.peer, limit.peer_value, limit.holds) == ("the limit", 0.35, None)
    assert (peer.peer_value, peer.ratio, peer.note) == (None, None, "no-such-command is not installed here")
