"""The settings: parsing, defaults, refusals."""

import random
from fractions import Fraction
from itertools import product
from numbers import Integral
from typing import get_type_hints

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import SimpleLazyObject

from django_mysql_recycle import option_types
from django_mysql_recycle.options import Options, PoolOptions, max_age_of, misplaced_hint

from .rows import each


def of(**recycle):
    return Options.of("default", {"OPTIONS": {"recycle": recycle}})


def test_everything_works_without_any_setting():
    assert Options.of("default", {}) == Options()
    assert Options.of("default", {"OPTIONS": {}}) == Options()
    assert of() == Options()


def test_the_defaults_are_those_of_the_design():
    assert Options() == Options(
        idle_limit=None,
        jitter=0.05,
        liveness_check=True,
        ping_after=10,
        ping_timeout=5,
        keepalive=10,
        network_timeout=30,
        connect_retries=4,
        pin_session_state=True,
        recycle_read_only=True,
        failover_timeout=10,
        require_primary=False,
    )


def test_typed_dict_has_the_settings_with_their_types():
    assert get_type_hints(option_types.RecycleOptions) == get_type_hints(Options)
    assert get_type_hints(option_types.PoolOptions) == get_type_hints(PoolOptions)


def test_an_unknown_key_is_refused_and_the_valid_ones_are_listed():
    with pytest.raises(ImproperlyConfigured) as caught:
        of(ping_afer=3)
    text = str(caught.value)
    assert text.startswith("DATABASES['default']['OPTIONS']['recycle']: unknown key 'ping_afer'")
    assert "ping_after" in text and "recycle_read_only" in text


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("ping_afer", "ping_after"),
        ("IDLE_LIMIT", "idle_limit"),
        ("keep-alive", "keepalive"),
        ("liveness_checks", "liveness_check"),
        ("read_timeout", None),
        ("on", None),
        (5, None),
    ],
)
def test_a_key_that_resembles_a_setting_is_refused_with_its_name(key, meant):
    with pytest.raises(ImproperlyConfigured) as caught:
        Options.of("default", {"OPTIONS": {"recycle": {key: 3}}})
    meaning = f"; did you mean {meant!r}? the valid keys are " if meant else "; the valid keys are "
    assert f"unknown key {key!r}{meaning}idle_limit, " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("idle_limit", "Move it to DATABASES['x']['OPTIONS']['recycle']['idle_limit']."),
        ("recycel", "Did you mean DATABASES['x']['OPTIONS']['recycle']?"),
        ("Recycle", "Did you mean DATABASES['x']['OPTIONS']['recycle']?"),
        ("ping_timeuot", "Did you mean DATABASES['x']['OPTIONS']['recycle']['ping_timeout']?"),
        ("conn_max_age", "Move it out of OPTIONS, to DATABASES['x']['CONN_MAX_AGE']."),
    ],
)
def test_a_misplaced_setting_is_recognized(name, hint):
    assert misplaced_hint("x", name) == hint


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("pool_recycle", "Remove it: "),
        ("pool_pre_ping", "Remove it: "),
        ("max_overflow", "Remove it: "),
        ("POOL_SIZE", "Set OPTIONS['pool'] = {'max_size': ...} instead."),
        ("max_size", "Move it to DATABASES['x']['OPTIONS']['pool']['max_size']."),
        ("max_lifetimes", "Did you mean DATABASES['x']['OPTIONS']['pool']['max_lifetime']?"),
        ("Pool", "Did you mean DATABASES['x']['OPTIONS']['pool']?"),
    ],
)
def test_settings_of_pools_are_recognized(name, begins):
    assert str(misplaced_hint("x", name)).startswith(begins)


# Every argument of mysqlclient 2.3 and PyMySQL 1.2.
ARGUMENTS = """
    auth_plugin auth_plugin_map bind_address binary_prefix charset client_flag collation compress
    connect_timeout conv cursorclass database db defer_connect executemany_fallback host
    init_command local_infile local_infile_dir max_allowed_packet multi_statements named_pipe
    passwd password port program_name read_default_file read_default_group read_timeout
    server_public_key server_public_key_path sql_mode ssl ssl_ca ssl_cert ssl_disabled ssl_key
    ssl_key_password ssl_mode ssl_verify_cert ssl_verify_identity unix_socket use_unicode user
    write_timeout
"""


def test_no_argument_of_a_driver_is_taken_for_a_setting_of_this_backend():
    assert [name for name in ARGUMENTS.split() if misplaced_hint("x", name)] == []


@pytest.mark.parametrize("given", [[], "on", 3, True])
def test_something_else_than_a_dict_is_refused(given):
    with pytest.raises(ImproperlyConfigured, match="expected a dict, got"):
        Options.of("other", {"OPTIONS": {"recycle": given}})


@each([(None, "None"), ([], "list"), ("passwd=secret", "str")])
def test_options_that_are_no_dict_are_refused_and_not_shown(given, reported):
    with pytest.raises(ImproperlyConfigured) as caught:
        Options.of("other", {"OPTIONS": given})
    assert str(caught.value) == f"DATABASES['other']['OPTIONS']: expected a dict, got {reported}"


NUMBERS = (
    *("idle_limit", "jitter", "ping_after", "ping_timeout", "keepalive", "network_timeout"),
    "failover_timeout",
)
SWITCHES = ("liveness_check", "pin_session_state", "recycle_read_only", "require_primary")


@each(
    product(
        [*NUMBERS, "connect_retries"],
        [True, False, float("nan"), float("inf"), -1, "5", "5m", [], {}],
    )
)
def test_what_is_no_number_of_seconds_is_refused(key, value):
    with pytest.raises(ImproperlyConfigured) as caught:
        of(**{key: value})
    text = str(caught.value)
    assert text.startswith(f"DATABASES['default']['OPTIONS']['recycle']['{key}']: expected ")
    assert text.endswith(f"got {value!r}")


@each(product([*NUMBERS, "connect_retries"], [10**400, SimpleLazyObject(lambda: 5)]))
def test_what_only_looks_like_a_number_is_refused(key, value):
    # math.isfinite() fails with an OverflowError or a TypeError of its own for these.
    with pytest.raises(ImproperlyConfigured, match=rf"\['{key}'\]: expected "):
        of(**{key: value})


@Integral.register
class OtherInt:
    """As NumPy's: no int, but an Integral."""

    def __int__(self):
        return 1

    __index__ = __int__

    def __float__(self):
        return 1.0

    def __eq__(self, other):
        return other == 1

    def __gt__(self, other):
        return other < 1

    def __ge__(self, other):
        return other <= 1

    def __le__(self, other):
        return other >= 1


@each([OtherInt(), Fraction(1, 2)])
def test_a_number_of_another_type_is_taken_as_one_of_pythons_own(value):
    assert type(of(jitter=value).jitter) in (int, float)
    assert of(jitter=value).jitter == value
    assert max_age_of("default", {"CONN_MAX_AGE": value}).between_statements == value


def test_a_lazy_switch_is_taken_as_a_bool():
    assert of(liveness_check=SimpleLazyObject(lambda: False)).liveness_check is False


@each(["mysql://user:secret@host/database?some=options", ["secret"] * 9])
def test_a_long_value_is_not_shown(value):
    for settings in ({"recycle": value}, {"recycle": {"ping_after": value}}):
        with pytest.raises(ImproperlyConfigured, match=rf"got {type(value).__name__}$"):
            Options.of("default", {"OPTIONS": settings})
    with pytest.raises(ImproperlyConfigured, match=rf"got {type(value).__name__}$"):
        max_age_of("default", {"CONN_MAX_AGE": value})


def test_a_number_that_python_does_not_print_is_refused_like_any_other():
    with pytest.raises(ImproperlyConfigured, match=r"got int$"):
        of(ping_after=10**5000)


@each(product(SWITCHES, [0, 1, None, "yes", 2.0]))
def test_a_switch_takes_true_or_false_only(key, value):
    with pytest.raises(ImproperlyConfigured, match="expected True or False, got"):
        of(**{key: value})


@each([*NUMBERS, "connect_retries"])
def test_none_is_off(key):
    assert getattr(of(**{key: None}), key) is None


@each(["idle_limit", "ping_timeout", "keepalive", "network_timeout"])
def test_a_limit_of_nothing_is_refused(key):
    with pytest.raises(ImproperlyConfigured, match="expected seconds > 0, or None, got 0"):
        of(**{key: 0})


def test_zero_is_a_value_where_it_makes_sense():
    assert of(ping_after=0).ping_after == 0
    assert of(jitter=0).jitter == 0
    assert of(connect_retries=0).connect_retries == 0


@each([1.5, "1"])
def test_connect_retries_is_a_count(value):
    with pytest.raises(ImproperlyConfigured, match="expected a whole number >= 0"):
        of(connect_retries=value)


def test_a_share_is_at_most_one():
    with pytest.raises(ImproperlyConfigured, match="expected a share between 0 and 1"):
        of(jitter=1.5)


@each([(None, None), (float("inf"), None), (0, None), (-1, None), (60, 60.0), (0.5, 0.5)])
def test_conn_max_age_limits_the_age_between_statements(given, limit):
    assert max_age_of("default", {"CONN_MAX_AGE": given}).between_statements == limit


@each(
    [
        (None, None, False),
        (float("inf"), None, False),
        (0, 0, True),
        (-1, -1, True),
        (60, 60, False),
    ]
)
def test_conn_max_age_keeps_djangos_meaning_at_boundaries(given, limit, closes):
    max_age = max_age_of("default", {"CONN_MAX_AGE": given})
    assert (max_age.at_boundary, max_age.closes_at_boundary) == (limit, closes)


def test_jitter_draws_no_random_number_without_a_max_age():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    assert max_age_of("default", {"CONN_MAX_AGE": 0}).drawn(0.5) is None
    assert random.random() == expected
    random.seed(1)
    assert max_age_of("default", {"CONN_MAX_AGE": 60}).drawn(0.5) == 60 * (1 - 0.5 * expected)


@each(["60", True, float("nan"), 10**400, SimpleLazyObject(lambda: 60)])
def test_a_conn_max_age_that_is_no_number_is_refused(given):
    with pytest.raises(ImproperlyConfigured, match=r"\['CONN_MAX_AGE'\]: expected seconds"):
        max_age_of("default", {"CONN_MAX_AGE": given})


@each(
    [
        (5, 3, 3),
        (5, 0.5, 0.5),
        (None, 3, 3),
        (2, 3, 2),
        (5, None, 5),
        (5, 0, 5),
        (None, None, None),
        # The driver refuses these, or not: it is for the driver to say.
        (5, "3", 5),
        (5, -1, 5),
        (5, True, 5),
        (5, float("nan"), 5),
    ]
)
def test_shorter_one_of_ping_timeout_and_read_timeout_counts(ping_timeout, read_timeout, counts):
    options = of(ping_timeout=ping_timeout).within({"read_timeout": read_timeout})
    assert options.ping_timeout == counts
    assert of().within({}) == of()
