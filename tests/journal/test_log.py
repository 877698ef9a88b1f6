"""Owns the proof of proxy/journal/log.py: a log goes on as it was left, and not at all where it was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy import journal
from proxy.errors import ConfigError
from proxy.journal.log import Log
from tests.journal.test_file import full_at
from tests.journal.written import AT_MS, SEED, entries, kinds, look, said, settings, write

NEWEST = "entries-000000000000.jsonl"


def test_a_log_that_was_closed_goes_on(tmp_path: Path) -> None:
    """Nothing is said of it, and one key signs all of it."""
    write(settings(tmp_path), ["a"])
    write(settings(tmp_path), ["b", "c"])

    assert ["opened", "call", "stopped", "call", "call", "stopped"] == kinds(tmp_path)
    assert ((), 6, 6) == ((report := look(tmp_path)).problems, report.entries, report.signed)


@pytest.mark.parametrize("torn", [b"", b'{"kind":"ca'], ids=["whole", "torn"])
def test_a_log_of_a_process_that_was_killed_says_so(tmp_path: Path, torn: bytes) -> None:
    """What was cut off, by length and digest, and how many entries nobody had signed; never a silent gap."""
    write(settings(tmp_path), ["a", "b"], stop=False)
    with (tmp_path / NEWEST).open("ab") as file:
        file.write(torn)

    write(settings(tmp_path), ["c"])

    assert ["opened", "call", "call", "recovered", "call", "stopped"] == kinds(tmp_path)
    recovered = entries(tmp_path)[3]
    assert (len(torn), hashlib.sha256(torn).hexdigest(), 2) == (
        recovered["cut_bytes"],
        recovered["cut_sha256"],
        recovered["unsigned"],
    )
    assert () == look(tmp_path).problems


def test_files_are_filled_one_after_the_other(tmp_path: Path) -> None:
    """Each begins with the tree so far, so that only the newest is read to go on."""
    for names in (["a", "b"], ["c", "d"], ["e"]):
        write(settings(tmp_path, segment_bytes=400), names)
    opened = [entry for entry in entries(tmp_path) if entry["kind"] == "opened"]

    assert len(opened) == len(list(tmp_path.glob("entries-*"))) == len(list(tmp_path.glob("salts-*"))) > 1
    assert [entry["seq"].bit_count() for entry in opened] == [len(entry["peaks"]) for entry in opened]
    assert () == look(tmp_path).problems


def test_a_file_that_cannot_be_begun_is_none(tmp_path: Path) -> None:
    """Where there is no room for the next file the full one is gone on with, and the next one begins when there is."""
    log = Log.open(settings(tmp_path, segment_bytes=250), AT_MS)
    log.append(said("a", "b", "c"))
    with full_at(50), pytest.raises(OSError, match="too large"):
        log.roll(AT_MS)
    log.append(said("d"))
    log.roll(AT_MS)
    log.append(said("e"))
    log.checkpoint()
    log.close()

    assert ["opened", "call", "call", "call", "call", "opened", "call"] == kinds(tmp_path)
    assert [0, 5] == [entry["seq"] for entry in entries(tmp_path) if entry["kind"] == "opened"]
    assert () == look(tmp_path).problems


def test_a_new_log_says_which_it_follows(tmp_path: Path) -> None:
    """Where an anchor knows an earlier log, the first entry links to its newest checkpoint."""
    anchor = tmp_path / "anchor"
    write(settings(tmp_path / "one", anchor=anchor), ["a"])
    write(settings(tmp_path / "two", anchor=anchor), ["b"])
    first, second = (entries(tmp_path / name)[0] for name in ("one", "two"))

    assert (None, first["log"], 3) == (first["previous"], second["previous"]["log"], second["previous"]["size"])
    assert [(), ()] == [look(tmp_path / name, anchor).problems for name in ("one", "two")]


def test_two_processes_do_not_write_one_log(tmp_path: Path) -> None:
    """The second is told to have its own."""
    log = Log.open(settings(tmp_path), AT_MS)

    with pytest.raises(ConfigError, match="another Handrail writes this audit log"):
        Log.open(settings(tmp_path), AT_MS)
    log.close()


def test_what_does_not_fit_is_not_there(tmp_path: Path) -> None:
    """Entries, salts and tree stay together, and go on when there is room."""
    log = Log.open(settings(tmp_path), AT_MS)
    written = len((tmp_path / NEWEST).read_bytes().rstrip(b"\0"))
    with full_at(written + 40), pytest.raises(OSError, match="too large"):
        log.append(said("a"))
    log.append(said("b"))
    log.checkpoint()
    log.close()

    assert (["opened", "call"], "b", ()) == (kinds(tmp_path), entries(tmp_path)[1]["id"], look(tmp_path).problems)
    assert 2 * 32 == (tmp_path / "salts-000000000000.bin").stat().st_size


def test_a_log_that_is_written_is_as_good_as_one_that_is_closed(tmp_path: Path) -> None:
    """The zeros that are laid out behind its entries and checkpoints are none of them, whoever reads meanwhile."""
    log = Log.open(settings(tmp_path), AT_MS)
    log.append(said("a"))
    log.checkpoint()
    notes = tmp_path / journal.CHECKPOINTS
    laid_out, laid_out_too = (tmp_path / NEWEST).read_bytes(), notes.read_bytes()
    meanwhile = look(tmp_path)
    log.close()

    assert laid_out.endswith(bytes(1000))
    assert laid_out_too == notes.read_bytes() + bytes(len(laid_out_too) - notes.stat().st_size)
    assert len(laid_out_too) > notes.stat().st_size
    assert () == meanwhile.problems == look(tmp_path).problems
    assert ["opened", "call"] == kinds(tmp_path)
    assert laid_out.rstrip(b"\0") == (tmp_path / NEWEST).read_bytes()


@pytest.mark.parametrize("torn", [b"", b'{"kind":"ca'], ids=["after an entry", "in an entry"])
def test_what_was_laid_out_by_a_process_that_died_is_written_over(tmp_path: Path, torn: bytes) -> None:
    """The next one goes on behind the last whole entry, and says what it has cut: zeros are nothing."""
    log, path = Log.open(settings(tmp_path), AT_MS), tmp_path / NEWEST
    log.append(said("a"))
    log.close()
    path.write_bytes(path.read_bytes() + torn + bytes(5000))
    notes = tmp_path / journal.CHECKPOINTS
    notes.write_bytes(notes.read_bytes() + bytes(5000))
    Log.open(settings(tmp_path), AT_MS).close()

    found = entries(tmp_path)
    assert ("recovered", len(torn)) == (found[-1]["kind"], found[-1]["cut_bytes"])
    assert () == look(tmp_path).problems


def test_what_cannot_be_written_is_on_record_as_lost(tmp_path: Path) -> None:
    """An entry that has no canonical form takes nothing along."""
    log = Log.open(settings(tmp_path), AT_MS)
    log.append([*said("\ud800"), *said("b")])
    log.close()

    assert ["opened", "lost", "call"] == kinds(tmp_path)


# --- what was changed -------------------------------------------------------------------------------------------------


def cut_end(folder: Path) -> None:
    """Take the last entry away."""
    path = folder / NEWEST
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def change(folder: Path) -> None:
    """Change an entry."""
    path = folder / NEWEST
    path.write_bytes(path.read_bytes().replace(b'"id":"a"', b'"id":"z"'))


def spoil_first(folder: Path) -> None:
    """Make the first entry unreadable."""
    path = folder / NEWEST
    path.write_bytes(b"x" + path.read_bytes())


def renumber(folder: Path) -> None:
    """Let the last entry say that it is another."""
    path = folder / NEWEST
    path.write_bytes(path.read_bytes().replace(b'"seq":3', b'"seq":4'))


def no_checkpoints(folder: Path) -> None:
    """Take the checkpoints away."""
    (folder / journal.CHECKPOINTS).unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(cut_end, "it has 3 entries, and 4 were signed", id="cut"),
        pytest.param(change, "its first 4 entries are not those that were signed", id="changed"),
        pytest.param(spoil_first, "is not as it was written", id="no beginning"),
        pytest.param(renumber, "it ends with entry 4, and should with 3", id="another number"),
        pytest.param(no_checkpoints, "no checkpoint of this log was signed with the key", id="no checkpoints"),
    ],
)
def test_nothing_is_written_after_a_change(tmp_path: Path, spoil: Callable[[Path], None], why: str) -> None:
    """Handrail does not start, and signs nothing, until somebody has looked."""
    write(settings(tmp_path), ["a", "b"])
    spoil(tmp_path)

    for _ in range(2):
        with pytest.raises(ConfigError, match=why):
            Log.open(settings(tmp_path), AT_MS)


def test_a_cut_end_is_seen_by_the_anchor(tmp_path: Path) -> None:
    """Where log and checkpoints were taken back together, the second place remembers."""
    where = settings(tmp_path / "log", anchor=tmp_path / "anchor")
    write(where, ["a"])
    kept = {path: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    write(where, ["b"])
    for path, data in kept.items():
        path.write_bytes(data)

    with pytest.raises(ConfigError, match="it has 3 entries, and 5 were signed"):
        Log.open(where, AT_MS)


def test_another_key_is_told(tmp_path: Path) -> None:
    """A log is not gone on with under another key."""
    write(settings(tmp_path), ["a"])

    with pytest.raises(ConfigError, match=r"audit\.key_file"):
        Log.open(settings(tmp_path, seed=SEED[::-1]), AT_MS)


def test_a_torn_checkpoint_is_cut_off(tmp_path: Path) -> None:
    """The one before it counts; what it covered is signed again."""
    write(settings(tmp_path), ["a"])
    path = tmp_path / journal.CHECKPOINTS
    path.write_bytes(path.read_bytes()[:-30])

    write(settings(tmp_path), ["b"])

    assert ((), 5) == ((report := look(tmp_path)).problems, report.signed)


@pytest.mark.parametrize("left", [b"", b'{"kind":"op'], ids=["empty", "torn"])
def test_a_file_that_was_never_begun_is_forgotten(tmp_path: Path, left: bytes) -> None:
    """A process that was killed while it made one leaves nothing behind."""
    (tmp_path / NEWEST).write_bytes(left)

    write(settings(tmp_path), ["a"])

    assert (["opened", "call", "stopped"], ()) == (kinds(tmp_path), look(tmp_path).problems)


def test_a_log_that_was_never_signed_is_begun_anew(tmp_path: Path) -> None:
    """A process that was killed between its first entry and its first checkpoint has said nothing yet."""
    write(settings(tmp_path), stop=False)
    (tmp_path / journal.CHECKPOINTS).write_bytes(b"")

    write(settings(tmp_path), ["a"])

    assert (["opened", "call", "stopped"], ()) == (kinds(tmp_path), look(tmp_path).problems)


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    """With its path and the system's reason."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be used for the audit log: Not a directory"):
        Log.open(settings(tmp_path / "file" / "log"), AT_MS)


def test_anchors_get_each_checkpoint_once(tmp_path: Path) -> None:
    """The newest, and only when it is newer."""
    log = Log.open(settings(tmp_path / "log", anchor=tmp_path / "anchor"), AT_MS)
    done = [log.anchor(), log.anchor()]
    log.append(said("a"))
    log.checkpoint()
    done.append(log.anchor())
    log.close()

    assert ([True, False, True], 2) == (done, (tmp_path / "anchor").read_text().count(f"\n{'— '}"))
