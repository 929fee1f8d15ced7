"""Words of DuckDB's SQL and what they mean in an expression of one row: which are refused, and why.

Reading an expression is ``mlflow_core.algebra.parse``; here are only its tables.
"""

from __future__ import annotations

__all__ = ["CLASSES", "ELSEWHERE", "MACROS", "OPERATORS", "WORLD"]

# Kinds of nodes that are no value of one row.
CLASSES = {
    "SUBQUERY": "a subquery looks at other rows",
    "WINDOW": "a window function looks at other rows",
    "STAR": "an expression gives one value, not all columns",
    "PARAMETER": "there are no parameters to fill in",
    "POSITIONAL_REFERENCE": "columns are called by name, not by number",
    "DEFAULT": "there is no default here",
}
# Macros that are made of functions of one row.
MACROS = frozenset(
    [
        "array_append",
        "array_pop_back",
        "array_pop_front",
        "array_prepend",
        "array_push_back",
        "array_push_front",
        "array_reverse",
        "array_to_string",
        "array_to_string_comma_default",
        "date_add",
        "days_in_month",
        "fdiv",
        "fmod",
        "if",
        "json",
        "list_any_value",
        "list_append",
        "list_avg",
        "list_bit_and",
        "list_bit_or",
        "list_bit_xor",
        "list_bool_and",
        "list_bool_or",
        "list_count",
        "list_entropy",
        "list_first",
        "list_histogram",
        "list_kurtosis",
        "list_last",
        "list_mad",
        "list_max",
        "list_median",
        "list_min",
        "list_mode",
        "list_prepend",
        "list_product",
        "list_reverse",
        "list_sem",
        "list_skewness",
        "list_stddev_pop",
        "list_stddev_samp",
        "list_string_agg",
        "list_sum",
        "list_var_pop",
        "list_var_samp",
        "map_contains_entry",
        "map_contains_value",
        "md5_number_lower",
        "md5_number_upper",
        "nullif",
        "pg_typeof",
        "split_part",
    ]
)
# Keywords that stand in expressions by right, so that a column of that name is not what was meant.
OPERATORS = frozenset(
    [
        "and",
        "as",
        "asc",
        "between",
        "case",
        "cast",
        "else",
        "false",
        "ilike",
        "in",
        "is",
        "like",
        "not",
        "null",
        "or",
        "over",
        "similar",
        "then",
        "true",
        "when",
    ]
)
# DuckDB reads these names as functions where no column is called so.
WORLD = frozenset(
    [
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_user",
        "session_user",
        "user",
        "current_role",
        "current_catalog",
        "current_schema",
    ]
)

# Functions that DuckDB calls consistent, and whose answer is not made of their arguments alone.
ELSEWHERE = {
    "alias": "tells how a column is called here, not what is in it",
    "combine": "is a piece of an aggregate",
    "create_sort_key": "may give other values in another version of DuckDB",
    "current_localtime": "gives another value each time it is asked",
    "current_localtimestamp": "gives another value each time it is asked",
    "finalize": "is a piece of an aggregate",
    "hash": "may give other values in another version of DuckDB",
    "json_deserialize_sql": "is a query in disguise",
    "json_serialize_plan": "is a query in disguise",
    "json_serialize_sql": "is a query in disguise",
    "to_aggregate_state": "is a piece of an aggregate",
    "version": "gives other values in another version of DuckDB",
}
