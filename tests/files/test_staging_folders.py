"""Private folders beside a target: gone at the end, whatever ends it."""

import shutil

import pytest

from gspo_rs.files import temporary


@pytest.mark.parametrize("broken", ["rmtree", "try_lock"])
def test_ctrl_c_while_a_folder_is_made_or_removed_leaves_none(tmp_path, monkeypatch, broken):
    came = []

    def interrupted(*given, **options):
        if came:
            return whole(*given, **options)
        came.append(given)
        raise KeyboardInterrupt

    module = shutil if broken == "rmtree" else temporary
    whole = getattr(module, broken)
    monkeypatch.setattr(module, broken, interrupted)
    with pytest.raises(KeyboardInterrupt), temporary.aside(tmp_path) as folder:
        (folder / "part").write_text("a")
    assert came
    assert not list(tmp_path.iterdir())
