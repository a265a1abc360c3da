-- schema_version: which schema the database has, and the oldest version whose dispatcher works with it
select schema_version, compatible_from from installation;

-- set_schema_version: a migration was done
update installation set schema_version = $1, compatible_from = $2;

-- create_partitions: the partitions of this month and of $1 months to come
select create_partitions(current_date, (current_date + make_interval(months => $1))::date);

-- make_this_month: the same, where this month has none: nothing can be written then
select create_partitions(current_date, (current_date + make_interval(months => $1))::date)
 where to_regclass('public.tail_position' || to_char(current_date, '"_y"YYYY"m"MM')) is null;

-- partitions_end: until when there are partitions: the end of the last month
select (max(to_date(right(c.relname, 7), 'YYYY"m"MM')) + interval '1 month')::timestamp at time zone 'UTC' as moment
  from pg_inherits h join pg_class c on c.oid = h.inhrelid
 where h.inhparent = 'public.outbox'::regclass;

-- drop_oldest_month: the oldest month that ended before $1 and, by this server's clock, $2 days ago, if everything in
-- it is finished
select drop_oldest_month(least($1::date, current_date - $2::int));

-- id_key: the key under which delivery ids are made
select id_key from installation;

-- adopt_key_check: remember which encryption key is used, unless one is remembered already
update installation set key_check = $1 where key_check is null;

-- key_check_shared: the same, for whoever seals in this transaction: a change of the key waits for its end
select key_check from installation for share;

-- key_check: which encryption key the secrets were sealed with
select key_check from installation;
