"""Functions of PostgreSQL's own extension modules that are volatile and write nothing.

They are known by the library and the symbol in it, which no name can imitate. Taken from the
modules of PostgreSQL 15 to 18, without what a standby refuses.
"""

from __future__ import annotations

from typing import Final

from .functions import names

HARMLESS_SYMBOLS: Final = {
    "amcheck": names("bt_index_check verify_heapam"),
    "dblink": names(
        """
        dblink_build_sql_delete dblink_build_sql_insert dblink_build_sql_update
        dblink_get_pkey
        """
    ),
    "pageinspect": names(
        """
        brin_metapage_info brin_page_items brin_page_type brin_revmap_data bt_metap
        bt_page_items bt_page_items_1_9 bt_page_items_bytea bt_page_stats bt_page_stats_1_9
        fsm_page_contents get_raw_page get_raw_page_1_9 get_raw_page_fork
        get_raw_page_fork_1_9 gin_leafpage_items gin_metapage_info gin_page_opaque_info
        gist_page_items gist_page_items_bytea gist_page_opaque_info hash_bitmap_info
        hash_metapage_info hash_page_items hash_page_stats hash_page_type heap_page_items
        heap_tuple_infomask_flags page_checksum page_checksum_1_9 page_header
        tuple_data_split
        """
    ),
    "pg_buffercache": names("pg_buffercache_pages"),
    "pg_freespacemap": names("pg_freespace"),
    "pg_visibility": names(
        """
        pg_check_frozen pg_check_visible pg_visibility pg_visibility_map
        pg_visibility_map_rel pg_visibility_map_summary pg_visibility_rel
        """
    ),
    "pgcrypto": names(
        """
        pg_gen_salt pg_gen_salt_rounds pg_random_bytes pg_random_uuid pgp_pub_encrypt_bytea
        pgp_pub_encrypt_text pgp_sym_encrypt_bytea pgp_sym_encrypt_text
        """
    ),
    "pgstattuple": names(
        """
        pg_relpages pg_relpages_v1_5 pg_relpagesbyid pg_relpagesbyid_v1_5 pgstatginindex
        pgstatginindex_v1_5 pgstathashindex pgstatindex pgstatindex_v1_5 pgstatindexbyid
        pgstatindexbyid_v1_5 pgstattuple pgstattuple_approx pgstattuple_approx_v1_5
        pgstattuple_v1_5 pgstattuplebyid pgstattuplebyid_v1_5
        """
    ),
    "pgxml": names("xslt_process"),
    "tablefunc": names("normal_rand"),
    "tsm_system_rows": names("tsm_system_rows_handler"),
    "tsm_system_time": names("tsm_system_time_handler"),
    "uuid-ossp": names("uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4"),
}
"""Symbols by library."""
