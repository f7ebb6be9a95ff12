"""The functions that a saved statement may call: of Spark's own, those that compute a value from a row and do nothing else.

Not among them, although Spark has them: what runs any method of any class (`java_method`, `reflect`), what tells of the
machine or the session (`current_user`, `version`, `input_file_name`), what answers otherwise each time (`rand`, `uuid`),
what makes a great value out of a small one (`sequence`, `repeat`), what reads markup (`xpath`, `from_xml`), and whatever
needs more than one row or makes more than one.
"""

from __future__ import annotations

from typing import Final

_NAMES: Final = """
    abs acos acosh add_months aggregate and array array_append array_compact array_contains array_distinct array_except
    array_insert array_intersect array_join array_max array_min array_position array_prepend array_remove array_size array_sort
    array_union arrays_overlap arrays_zip ascii asin asinh atan atan2 atanh base64 between bigint bin binary bit_count bit_get
    bit_length boolean bround btrim cardinality cast cbrt ceil ceiling char char_length character_length chr coalesce collate
    collation concat concat_ws contains conv convert_timezone cos cosh cot crc32 csc curdate current_date current_time
    current_timestamp current_timezone date date_add date_diff date_format date_from_unix_date date_part date_sub date_trunc
    dateadd datediff datepart day dayname dayofmonth dayofweek dayofyear decimal decode degrees div double e element_at elt encode
    endswith equal_null exists exp expm1 extract factorial filter find_in_set flatten float floor forall format_number
    format_string from_csv from_json from_unixtime from_utc_timestamp get get_json_object getbit greatest hash hex hour hypot if
    ifnull ilike in initcap instr int is_valid_utf8 is_valid_variant is_variant_null isnan isnotnull isnull json_array_length
    json_object_keys last_day lcase least left len length levenshtein like ln localtimestamp locate log log10 log1p log2 lower
    lpad ltrim luhn_check make_date make_dt_interval make_interval make_time make_timestamp make_timestamp_ltz make_timestamp_ntz
    make_valid_utf8 make_ym_interval map map_concat map_contains_key map_entries map_filter map_from_arrays map_from_entries
    map_keys map_values map_zip_with mask md5 minute mod month monthname months_between named_struct nanvl negative next_day not
    now nullif nullifzero nvl nvl2 octet_length or overlay parse_json parse_url pi pmod position positive pow power printf quarter
    quote radians reduce regexp regexp_count regexp_extract regexp_extract_all regexp_instr regexp_like regexp_replace
    regexp_substr replace reverse right rint rlike round rpad rtrim schema_of_csv schema_of_json schema_of_variant sec second
    sentences sha sha1 sha2 shiftleft shiftright shiftrightunsigned sign signum sin sinh size slice smallint sort_array soundex
    split split_part sqrt startswith str_to_map string struct substr substring substring_index tan tanh time time_bucket time_diff
    time_from_micros time_from_millis time_from_seconds time_to_micros time_to_millis time_to_seconds time_trunc timestamp
    timestamp_micros timestamp_millis timestamp_seconds tinyint to_binary to_char to_csv to_date to_json to_number to_time
    to_timestamp to_timestamp_ltz to_timestamp_ntz to_unix_timestamp to_utc_timestamp to_varchar to_variant_object transform
    transform_keys transform_values translate trim trunc try_add try_divide try_element_at try_make_interval try_make_timestamp
    try_make_timestamp_ltz try_make_timestamp_ntz try_mod try_multiply try_parse_json try_parse_url try_subtract try_to_binary
    try_to_date try_to_number try_to_time try_to_timestamp try_url_decode try_validate_utf8 try_variant_get typeof ucase unbase64
    unhex unix_date unix_micros unix_millis unix_seconds unix_timestamp upper url_decode url_encode validate_utf8 variant_get
    vector_cosine_similarity vector_inner_product vector_l2_distance vector_norm vector_normalize weekday weekofyear when
    width_bucket xxhash64 year zeroifnull zip_with
"""
ALLOWED: Final = frozenset(_NAMES.split())
#: The place of the argument that says how long the answer is. A record may have a megabyte; an answer of 2^31 would end the process.
LENGTHS: Final = {"lpad": 1, "rpad": 1}
LONGEST: Final = 10_000
#: The place of the argument that says how each value is spelled, its width included.
SPELLINGS: Final = {"format_string": 0, "printf": 0}
