from animatediff.errors import ModelError, SettingsError, end_of, quoted


def test_what_is_long_is_quoted_with_a_mark_where_it_was_cut():
    assert quoted("a" * 58) == repr("a" * 58)
    assert quoted("a" * 59) == "'" + "a" * 59 + " …"


def test_a_long_path_keeps_the_name_of_its_file():
    assert end_of("/tmp/none.png") == "/tmp/none.png"
    assert end_of("/tmp/" + "x" * 200 + "/none.png").startswith("… x")
    assert end_of("/tmp/" + "x" * 200 + "/none.png").endswith("x/none.png")


def test_a_face_has_its_own_names_of_parameters():
    labels = {"overlap": "Overlap", "context_length": "Context length", "size": "Size"}
    error = SettingsError("16 is too much", where="overlap", remedy="Use a longer context_length of that size.")
    assert str(error.named(labels)) == "Overlap: 16 is too much. Use a longer Context length of that size."
    about_a_file = ModelError("is damaged", where="context_length.ckpt", remedy="Get context_length.ckpt anew.")
    assert str(about_a_file.named(labels)) == str(about_a_file)
