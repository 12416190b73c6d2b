from animatediff.errors import end_of, quoted


def test_what_is_long_is_quoted_with_a_mark_where_it_was_cut():
    assert quoted("a" * 58) == repr("a" * 58)
    assert quoted("a" * 59) == "'" + "a" * 59 + " …"


def test_a_long_path_keeps_the_name_of_its_file():
    assert end_of("/tmp/none.png") == "/tmp/none.png"
    assert end_of("/tmp/" + "x" * 200 + "/none.png").startswith("… x")
    assert end_of("/tmp/" + "x" * 200 + "/none.png").endswith("x/none.png")
