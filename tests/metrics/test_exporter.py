"""The metrics as text, read back by the parser of prometheus_client."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from router.histograms import BOUNDS
from router.metrics.exporter import Exporter
from router.metrics.families import ADDRESSES, HISTOGRAMS, POOLS
from tests.admin.builders import ADDRESS, MULTIPLEXING, POOL, FakeView

if TYPE_CHECKING:
    from prometheus_client.core import Metric

ADDRESS_LABELS = {
    "database": "app0",
    "host": "db1",
    "index": "0",
    "pool": "app",
    "role": "primary",
    "shard": "0",
    "username": "ann",
}


def scrape(view: FakeView) -> dict[str, Metric]:
    """The metrics by their names in the text; the parser makes counters end in `_total`."""
    text = Exporter(view).render().decode()
    names = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    assert len(set(names)) == len(names)
    return dict(zip(names, text_string_to_metric_families(text), strict=True))


def value(name: str) -> float:
    """The value of the only sample."""
    [sample] = scrape(FakeView())[f"pgcat_{name}"].samples
    return sample.value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("limits_value", 20),
        ("limits_used", 19),
        ("limits_waiting", 1),
        ("limits_refused", 4),
        ("limits_evictions", 7),
        ("timeouts_total", 3),
        ("routing_hits", 994),
        ("routing_fingerprint_hits", 4),
        ("routing_misses", 2),
        ("routing_texts", 1),
        ("routing_fingerprints", 2),
        ("routing_bytes", 3),
        ("routing_tables", 5),
        ("routing_functions", 6),
        ("routing_too_complex", 7),
        ("retried_reads", 9),
        ("prepared_anew", 10),
        ("reads_waited", 11),
        ("reads_to_primary", 12),
        ("stats_total_query_count", 200),
        ("stats_total_query_time", 600),
        ("stats_total_query_time_us", 600_999),
        ("stats_total_received", 300_000),
        ("stats_total_sent", 40_000),
        ("stats_total_xact_count", 100),
        ("stats_total_xact_time", 5000),
        ("stats_total_xact_time_us", 5_000_999),
        ("stats_total_wait_time", 7000),
        ("stats_total_errors", 8),
        ("stats_avg_query_count", 12),
        ("stats_avg_query_time", 17),
        ("stats_avg_recv", 13),
        ("stats_avg_sent", 14),
        ("stats_avg_errors", 15),
        ("stats_avg_xact_count", 11),
        ("stats_avg_xact_time", 16),
        ("stats_avg_wait_time", 18),
        ("servers_bytes_received", 300_000),
        ("servers_bytes_sent", 40_000),
        ("servers_transaction_count", 100),
        ("servers_query_count", 200),
        ("servers_error_count", 8),
        ("servers_idle_count", 6),
        ("servers_active_count", 5),
        ("servers_tested_count", 1),
        ("servers_login_count", 3),
        ("servers_is_banned", 1),
        ("servers_is_paused", 0),
        ("databases_pool_size", 20),
        ("databases_current_connections", 11),
        ("pools_cl_idle", 1),
        ("pools_cl_active", 2),
        ("pools_cl_waiting", 3),
        ("pools_sv_idle", 6),
        ("pools_sv_active", 5),
        ("pools_sv_login", 9),
        ("pools_sv_tested", 8),
        ("pools_maxwait", 2),
        ("pools_maxwait_us", 345_678),
        ("multiplexing_depth", 8),
        ("multiplexing_under_way", 7),
        ("multiplexing_deepest", 3),
        ("multiplexing_shared_total", 1),
        ("multiplexing_moved_total", 2),
        ("listen_is_up", 1),
        ("listen_channels", 2),
        ("listen_listeners", 12),
        ("listen_received_total", 3500),
        ("listen_dropped_total", 4),
        ("listen_reconnects_total", 5),
        ("health_is_up", 0),
        ("health_is_banned", 1),
        ("health_attempts", 3),
        ("health_checks", 40),
        ("health_failed_checks", 5),
        ("health_check_time_us", 1234),
        ("health_lag_bytes", 1000),
        ("health_lag_us", 2500),
        ("build_info", 1),
    ],
)
def test_a_metric_has_the_name_of_pgcat_and_the_value_of_its_snapshot(
    name: str, expected: int
) -> None:
    assert value(name) == expected


def test_counters_keep_their_names_and_are_called_counters() -> None:
    lines = Exporter(FakeView()).render().decode().splitlines()
    assert "# TYPE pgcat_stats_total_query_count counter" in lines
    assert "# TYPE pgcat_servers_bytes_sent counter" in lines
    assert "# TYPE pgcat_pools_cl_idle gauge" in lines
    totals = [line for line in lines if "pgcat_" in line and "_total{" in line]
    assert totals == [  # which PgCat does not have
        *(
            f'pgcat_prepared_statements_{name}_total{{pool="app",user="ann"}} {value}'
            for name, value in (("hits", 99), ("misses", 1), ("evictions", 3))
        ),
        *(
            f"pgcat_multiplexing_{name}_total"
            f'{{address="app_shard_0_primary",pool="app",user="ann"}} {value}'
            for name, value in (("shared", 1), ("moved", 2))
        ),
        *(
            f'pgcat_multiplexing_alone_total{{address="app_shard_0_primary",pool="app",'
            f'reason="{reason}",user="ann"}} {value}'
            for reason, value in (
                ("no_room", 4),
                ("not_a_read", 5),
                ("state", 6),
                ("uncounted", 0),
            )
        ),
        *(
            f'pgcat_listen_{name}_total{{pool="app",shard="1",user="ann"}} {value}'
            for name, value in (("received", 3500), ("dropped", 4), ("reconnects", 5))
        ),
        'pgcat_timeouts_total{kind="query"} 3',
        'pgcat_errors_total{pool="app",source="router",sqlstate="3D000",user="ann"} 7',
        *(
            f'pgcat_traced_statements_total{{outcome="{outcome}"}} {value}'
            for outcome, value in (("sent", 30), ("failed", 2), ("dropped", 1))
        ),
    ]


def test_each_family_is_a_blank_line_its_help_its_type_and_its_samples() -> None:
    text = Exporter(FakeView()).render().decode()
    assert text.startswith(
        "\n# HELP pgcat_stats_total_query_count Queries.\n"
        "# TYPE pgcat_stats_total_query_count counter\n"
        'pgcat_stats_total_query_count{database="app0",host="db1",index="0",pool="app",'
        'role="primary",shard="0",username="ann"} 200\n'
        "\n# HELP "
    )
    assert text.endswith("\n")


def test_the_labels_are_those_of_pgcat() -> None:
    found = scrape(FakeView())
    for address_family in ADDRESSES.families:
        assert found[address_family.name].samples[0].labels == ADDRESS_LABELS
    for pool_family in POOLS.families:
        assert found[pool_family.name].samples[0].labels == {"pool": "app", "user": "ann"}


def test_users_of_one_server_are_kept_apart() -> None:
    view = FakeView(address_rows=[ADDRESS, replace(ADDRESS, user="bob", query_count=5)])
    samples = scrape(view)["pgcat_servers_query_count"].samples
    assert {sample.labels["username"]: sample.value for sample in samples} == {
        "ann": 200,
        "bob": 5,
    }


def test_an_address_without_connections_keeps_its_counters_and_its_ban() -> None:
    bare = replace(ADDRESS, current_connections=0, sv_idle=0, sv_active=0)
    found = scrape(FakeView(address_rows=[bare], server_rows=[]))
    assert found["pgcat_servers_bytes_sent"].samples[0].value == 40_000
    assert found["pgcat_servers_is_banned"].samples[0].value == 1


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", 'a\\"\nb', "ä{}=,", ""])
def test_a_label_may_hold_any_character(name: str) -> None:
    [sample] = scrape(FakeView(pool_rows=[replace(POOL, user=name)]))[
        "pgcat_pools_cl_idle"
    ].samples
    assert sample.labels["user"] == name


def test_a_large_counter_keeps_its_last_digit() -> None:
    view = FakeView(address_rows=[replace(ADDRESS, received=2**53 + 1)])
    assert f"}} {2**53 + 1}\n" in Exporter(view).render().decode()


def test_families_without_samples_are_left_out() -> None:
    view = FakeView([], [], [], [], [], [], [], [], [], [], error_rows=[], histogram_rows=[])
    view.traced = None
    view.prepared_rows.clear()
    view.hub_rows.clear()
    found = scrape(view)
    assert [name for name in found if name.startswith("pgcat_")] == ["pgcat_build_info"]


def test_where_nothing_is_multiplexed_there_are_no_metrics_of_it() -> None:
    found = scrape(FakeView(multiplexing_rows=[replace(MULTIPLEXING, is_on=False)]))
    assert not [name for name in found if name.startswith("pgcat_multiplexing")]


def test_the_process_itself_is_measured() -> None:
    found = scrape(FakeView())
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
    assert found["process_cpu_seconds_total"].type == "counter"


def test_a_registry_of_prometheus_client_takes_the_exporter() -> None:
    registry = CollectorRegistry()
    registry.register(Exporter(FakeView()))
    assert registry.get_sample_value("pgcat_pools_cl_idle", {"pool": "app", "user": "ann"}) == 1


# --- histograms


def test_buckets_are_cumulative_and_end_with_all() -> None:
    samples = scrape(FakeView())["pgcat_query_seconds"].samples
    buckets = {each.labels["le"]: each.value for each in samples if "le" in each.labels}
    assert buckets["1e-05"] == 0
    assert buckets["2e-05"] == 3
    assert buckets["5e-05"] == 5
    assert buckets["50.0"] == 5
    assert buckets["+Inf"] == 6
    assert len(buckets) == len(BOUNDS) // 2 + 1
    rest = {each.name: each.value for each in samples if "le" not in each.labels}
    assert rest == {"pgcat_query_seconds_count": 6, "pgcat_query_seconds_sum": 71.5}


def test_every_histogram_has_a_family() -> None:
    found = scrape(FakeView())
    for name in HISTOGRAMS:
        assert found[f"pgcat_{name}"].type == "histogram"


# --- OpenMetrics


def read_open(text: str) -> list[Metric]:
    return list(open_metrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_the_parser_of_open_metrics_reads_the_same_samples() -> None:
    view = FakeView()
    text = Exporter(view).render_open().decode()
    assert text.endswith("\n# EOF\n")
    families = read_open(text)
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("pgcat_")
    }
    plain = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in Exporter(view).collect()
        for sample in family.samples
        if sample.name.startswith("pgcat_")
    }
    assert found == plain
    kinds = {family.name: family.type for family in families}
    assert kinds["pgcat_errors"] == kinds["pgcat_timeouts"] == "counter"
    assert kinds["pgcat_stats_total_query_count"] == "unknown"
    assert kinds["pgcat_query_seconds"] == "histogram"
    assert kinds["process_cpu_seconds"] == "counter"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", 'a\\"\nb', "ä{}=,", ""])
def test_a_label_of_open_metrics_may_hold_any_character(name: str) -> None:
    text = Exporter(FakeView(pool_rows=[replace(POOL, user=name)])).render_open().decode()
    [family] = [family for family in read_open(text) if family.name == "pgcat_pools_cl_idle"]
    assert family.samples[0].labels["user"] == name
