"""Requests in the forms that clients send."""
from __future__ import annotations

import pytest

from animatediff.errors import SettingsError
from animatediff.hosts.a1111 import request

# The request in the older extension's documentation for API clients, with its defaults.
OLD_CLIENT = {
    "model": "mm_sd15_v3.safetensors", "enable": True, "video_length": 24, "fps": 12, "loop_number": 0,
    "closed_loop": "R-P", "batch_size": 16, "stride": 1, "overlap": -1, "format": ["GIF", "PNG"], "interp": "Off",
    "interp_x": 10, "video_source": None, "video_path": "", "mask_path": "", "freeinit_enable": False,
    "freeinit_filter": "butterworth", "freeinit_ds": 0.25, "freeinit_dt": 0.25, "freeinit_iters": 3, "latent_power": 1,
    "latent_scale": 32, "last_frame": None, "latent_power_last": 1, "latent_scale_last": 32, "request_id": "",
}


def test_an_old_clients_object_is_understood():
    s = request.read(({**OLD_CLIENT}, None, None))
    assert (s.motion_module, s.frames, s.fps, s.closed_loop, s.context_length) == (
        "mm_sd15_v3.safetensors", 24, 12, "R-P", 16)
    assert s.formats == ("GIF", "PNG") and s.overlap == -1


def test_an_old_clients_interpolation():
    s = request.read(({**OLD_CLIENT, "interp": "FILM"},))
    assert (s.interp, s.interp_x) == ("FILM", 10) and request.read(({**OLD_CLIENT},)).interp_x == 2


def test_an_old_clients_source_video():
    s = request.read(({**OLD_CLIENT, "video_source": "clip.mp4", "video_path": "frames", "mask_path": "masks"},))
    assert (s.video_source, s.video_path, s.mask_path, s.video) == ("clip.mp4", "frames", "masks", "frames")


@pytest.mark.parametrize(("key", "value", "instead"), [
    ("reverse", ["Add Reverse Frame"], "ping-pong"),
    ("prompt_scheduler", {}, "0: "),
])
def test_what_is_not_there_yet_names_the_way_that_works(key, value, instead):
    with pytest.raises(SettingsError) as caught:
        request.read(({**OLD_CLIENT, key: value},))
    assert instead in caught.value.remedy


@pytest.mark.parametrize("more", [
    {"reverse": []}, {"reverse": None}, {"use_f16": True}, {"interp": None}, {"video_source": []},
    {"closed_loop": False}, {"prompt_scheduler": None, "video_default": False, "is_i2i_batch": False},
    {"model": None, "video_length": None},
])
def test_what_older_versions_clients_send_and_asks_for_nothing_is_taken(more):
    assert request.read(({**OLD_CLIENT, **more},)) is not None


def test_the_switch_that_closed_loops_once_was():
    assert request.read(({**OLD_CLIENT, "closed_loop": True},)).closed_loop == "R+P"
    assert request.read(({**OLD_CLIENT, "closed_loop": False},)).closed_loop == "none"


def test_an_object_that_does_not_enable_us_asks_for_nothing_but_is_still_read():
    assert request.read(({"video_length": 8},)) is None
    with pytest.raises(SettingsError, match="enabled"):
        request.read(({"enabled": True},))


def test_a_page_without_the_tick_is_not_read():
    assert request.read((False, "gone.ckpt", "nonsense")) is None
    assert request.read(()) is None
    assert request.read((None,) * len(request.ORDER)) is None


def test_values_by_position_follow_the_order():
    values = {"enable": True, "motion_module": "a.ckpt", "frames": 8, "fps": 23.976}
    s = request.read(tuple(values.get(name) for name in request.ORDER))
    assert (s.motion_module, s.frames, s.fps, s.context_length) == ("a.ckpt", 8, 23.976, 16)


def test_enable_comes_first_and_what_the_host_has_controls_for_is_not_ours():
    assert request.ORDER[0] == "enable" and not {"prompt", "seed", "steps", "checkpoint"} & set(request.ORDER)


def test_axes_overrule_and_can_enable():
    assert request.read(({**OLD_CLIENT},), {"stride": 4}).stride == 4
    assert request.read((False,), {"enable": True, "frames": 4}).frames == 4


@pytest.mark.parametrize("first", [[1, 2], 1.5, object()])
def test_something_else_in_place_of_the_object_is_refused(first):
    with pytest.raises(SettingsError):
        request.read((first,))


@pytest.mark.parametrize(("values", "where"), [({"fps": -1}, "fps"), ({"format": ["AVI"]}, "format"),
                                               ({"overlap": 16, "batch_size": 16}, "overlap"),
                                               ({"video_length": -1}, "video_length"), ({"model": 3.5}, "model")])
def test_bad_values_are_refused_under_the_clients_name(values, where):
    with pytest.raises(SettingsError) as caught:
        request.read(({"enable": True, **values},))
    assert caught.value.where == where and caught.value.remedy


@pytest.mark.parametrize("name", ["video_length", "frames"])
def test_a_plots_value_overrules_the_requests_by_whatever_name(name):
    asked = {"enable": True, name: 24, "fps": 5}
    wanted = request.read((asked,), {"frames": 3})
    assert (wanted.frames, wanted.fps) == (3, 5)


# -- FreeInit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "iterations"), [
    ({}, 1), ({"freeinit_enable": True}, 3), ({"freeinit_enable": True, "freeinit_iters": 5}, 5),
    ({"freeinit_enable": None, "freeinit_iters": 5}, 1), ({"freeinit_enable": "on", "freeinit_iters": None}, 3),
    ({"freeinit_enable": True, "freeinit_iterations": 3}, 3), ({"freeinit_enable": False, "freeinit_iterations": 1}, 1),
])
def test_the_older_extensions_switch_and_number(change, iterations):
    assert request.read(({**OLD_CLIENT, **change},)).freeinit_iterations == iterations


def test_free_init_by_our_names_needs_no_switch():
    wanted = request.read(({"enable": True, "freeinit_iterations": 4, "freeinit_filter": "ideal", "freeinit_ds": 0.5},))
    assert (wanted.freeinit_iterations, wanted.freeinit_filter, wanted.freeinit_d_s) == (4, "ideal", 0.5)
    both = {"enable": True, "freeinit_enable": True, "freeinit_iterations": 4}
    assert request.read((both,)).freeinit_iterations == 4
    assert request.read(({"enable": True, "freeinit_iters": 4},)).freeinit_iterations == 1, "as in the older one"
    assert request.read(({**OLD_CLIENT, "freeinit_enable": True},), {"freeinit_iterations": 2}).freeinit_iterations == 2


def test_the_older_extensions_numbers_are_its_filters():
    asked = {**OLD_CLIENT, "freeinit_enable": True, "freeinit_filter": "gaussian",
             "freeinit_ds": 0.1, "freeinit_dt": 0.9}
    s = request.read((asked,))
    assert (s.freeinit_filter, s.freeinit_d_s, s.freeinit_d_t, s.freeinit_order) == ("gaussian", 0.1, 0.9, 4)
    nothing = {**OLD_CLIENT, "freeinit_filter": None, "freeinit_ds": None, "freeinit_dt": None}
    assert request.read((nothing,)) == request.read((OLD_CLIENT,))


@pytest.mark.parametrize(("change", "where"), [
    ({"freeinit_enable": 2}, "freeinit_enable"), ({"freeinit_enable": True, "freeinit_iters": 0}, "freeinit_iters"),
    ({"freeinit_enable": False, "freeinit_iterations": 3}, "freeinit_enable"),
    ({"freeinit_enable": True, "freeinit_iters": 3, "freeinit_iterations": 4}, "freeinit_enable"),
    ({"freeinit_ds": 2}, "freeinit_ds"), ({"freeinit_filter": "brick"}, "freeinit_filter"),
    ({"freeinit_dt": 0.5, "freeinit_d_t": 0.6}, "freeinit_d_t"),
])
def test_free_init_that_cannot_be_is_refused_under_the_clients_name(change, where):
    with pytest.raises(SettingsError) as caught:
        request.read(({**OLD_CLIENT, "freeinit_iters": None, **change},))
    assert caught.value.where == where and caught.value.remedy
