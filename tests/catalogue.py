"""What a database's schema amounts to: tables, columns, constraints, indexes, triggers, functions, rights.

Two databases that were made in different ways are the same when these are. Left out are what depends on the
day (the partitions), and the order of columns, which a migration cannot choose.
"""

from __future__ import annotations

from typing import Final

from tests.postgres import Database

_CATALOGUE: Final = """
    with kept as (
        select oid, oid::regclass::text as name, relkind, relacl, reloptions from pg_class
         where relnamespace = 'public'::regnamespace and not relispartition
    )
    select 'table' as kind, name, relkind::text || coalesce(reloptions::text, '') as what,
           coalesce((select string_agg(a::text, ' ' order by a::text) from unnest(relacl) a), '') as more
      from kept
    union all
    select 'column', k.name,
           concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attstorage::text),
           concat_ws(' ', a.attnotnull::text, a.attidentity::text, pg_get_expr(d.adbin, d.adrelid),
                     a.attacl::text)
      from kept k join pg_attribute a on a.attrelid = k.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where k.relkind in ('r', 'p')
    union all
    select 'constraint', k.name, c.conname, pg_get_constraintdef(c.oid)
      from kept k join pg_constraint c on c.conrelid = k.oid
    union all
    select 'index', k.name, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
      from kept k join pg_index i on i.indrelid = k.oid
    union all
    select 'trigger', k.name, t.tgname::text, pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
      from kept k join pg_trigger t on t.tgrelid = k.oid where not t.tgisinternal
    union all
    select 'function', p.oid::regprocedure::text, coalesce(p.proacl::text, ''), pg_get_functiondef(p.oid)
      from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
    union all
    select 'event type', name, lane::text || built_in::text, fields::text || sample::text from event_type
     where built_in
    order by 1, 2, 3, 4
"""


async def catalogue(database: Database) -> list[tuple[str, ...]]:
    """Describe a database's schema, a row for each thing."""
    connection = await database.connect()
    try:
        return [tuple(row) for row in await connection.fetch(_CATALOGUE)]
    finally:
        await connection.close()
