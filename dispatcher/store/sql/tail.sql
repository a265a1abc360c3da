-- tail_newest: how far a lane has been read, and where we are
select here.system_identifier as system_id_here, current_date as today,
       pg_snapshot_xmax(pg_current_snapshot())::text as next_xid, p.batch, p.day, p.done::text as done_text,
       p.target::text as target_text, p.xid::text as xid_text, p.outbox_id, p.system_id, p.rest,
       coalesce(r.outbox_id, 0) as floor,
       i.database_oid <> here.database_oid as copied,
       i.id is null or (i.database_oid, i.timeline) is distinct from (here.database_oid, here.timeline) as elsewhere,
       p.batch is null and exists (
           select from outbox o
            where o.lane = $1 and o.xid >= pg_snapshot_xmax(pg_current_snapshot())
              and o.id > coalesce(r.outbox_id, 0)) as from_elsewhere
  from (
    select s.system_identifier, d.oid as database_oid,
           case when not pg_is_in_recovery()
                then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer end as timeline
      from pg_control_system() s, pg_database d where d.datname = current_database()) here
  left join lateral (select * from tail_position where lane = $1 order by batch desc limit 1) p on true
  left join lateral (select * from incarnation order by id desc limit 1) i on true
  left join lateral (select outbox_id from rebase order by id desc limit 1) r on true;

-- incarnation_enter: run $1 goes on in this copy of the database; the row, if it was not known or is acknowledged ($2) now
-- The first 8 digits of a file's name in the log are the timeline. Where a run finds another one, ids are skipped that
-- may have been given, and delivered, in what was lost.
with held as materialized (
    select run_id from lease where run_id = $1 for key share
), last as (
    select * from incarnation order by id desc limit 1
), here as (
    select d.oid as database_oid,
           ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer as timeline
      from pg_database d where d.datname = current_database()
), entered as (
    insert into incarnation (id, run_id, database_oid, timeline, acknowledged, reaches)
    select coalesce(last.id, 0) + 1, held.run_id, here.database_oid, here.timeline, $2, (
               select max(m.recorded_at) from generate_series(0, 2) l (lane)
                cross join lateral (
                   select recorded_at from message
                    where lane = l.lane order by batch desc, outbox_id desc limit 1) m)
      from held cross join here left join last on true
     where last.id is null or (last.database_oid, last.timeline) <> (here.database_oid, here.timeline)
        or ($2 and not last.acknowledged and last.id > 1)
    on conflict do nothing returning timeline, at, reaches
)
select last.timeline as before, entered.timeline, entered.at as noticed_at, entered.reaches as known_until,
       case when last.id is not null and not $2 then skip_outbox_ids() end as skipped_to
  from entered left join last on true;

-- tail_snapshot: the present snapshot: unchanged means that nothing was committed anywhere
select pg_current_snapshot()::text;

-- tail_range: a lane's rows after a position that are visible in a snapshot, and that snapshot ($4, or the present one)
-- One statement, so the rows and the bound come from one snapshot. The row comparison is the only lower
-- bound (with a second one the index scan starts at the wrong one and walks). Days prune partitions: what was
-- assigned a transaction id after `done`, on day $6, was recorded between then and now ($8, where that is later),
-- in whatever direction the server's clock was put meanwhile.
-- Rows up to $7 were dealt with by a rebase; their transaction ids may be another server's.
with bound as materialized (
    select coalesce($4::text::pg_snapshot, pg_current_snapshot()) as target
)
select bound.target::text as target_text, (select version from registry_version) as registry_version,
       current_date as today, rows.*
  from bound left join lateral (
    select o.xid::text as xid_text, o.id, o.day, o.type, o.data::text as data_text, o.occurred_at,
           o.recorded_at, o.target_webhook_id, o.test, o.event_id, o.traceparent,
           coalesce(o.network_id, (
               select e.network_id from outbox e
                where e.event_id = o.event_id and e.network_id is not null and not e.test
                order by e.id limit 1)) as network_id
      from outbox o
     where o.lane = $1 and (o.xid, o.id) > ($2::text::xid8, $3::bigint)
       and o.xid < pg_snapshot_xmax(bound.target) and pg_visible_in_snapshot(o.xid, bound.target)
       and o.day >= least($6::date, current_date) - 2 and o.day <= greatest($6::date, $8::date, current_date) + 2
       and o.id > $7::bigint
     order by o.xid, o.id limit $5
  ) as rows on true;

-- tail_stragglers: a lane's rows of transactions that were open when the last snapshot was taken and have ended since
select rows.* from unnest($2::text[]::xid8[]) as ended (xid) cross join lateral (
    select o.xid, o.xid::text as xid_text, o.id, o.day, o.type, o.data::text as data_text, o.occurred_at,
           o.recorded_at, o.target_webhook_id, o.test, o.event_id, o.traceparent,
           coalesce(o.network_id, (
               select e.network_id from outbox e
                where e.event_id = o.event_id and e.network_id is not null and not e.test
                order by e.id limit 1)) as network_id
      from outbox o
     where o.lane = $1 and o.xid = ended.xid and (o.xid, o.id) > ($3::text::xid8, $4::bigint)
       and o.id > $6::bigint
     order by o.xid, o.id limit $5
) as rows
 order by rows.xid, rows.id limit $5;

-- tail_begun: of lane $1, the message of event $2, whose fan-out was begun: one of the newest
select m.day, m.outbox_id, m.batch, m.type, m.occurred_at, m.recorded_at, m.body, m.full_body, m.full_for,
       m.fan_out, o.test, o.event_id, o.traceparent
  from message m join outbox o on o.day = m.day and o.id = m.outbox_id
 where m.lane = $1 and m.outbox_id = $2 order by m.batch desc limit 1;

-- fan_out: messages, deliveries and the position, all or nothing, and only while run $1 leads
-- Until the end of the statement nobody else takes the lead. $22 is part of what makes a batch unique, so
-- whatever is to take the place of this one has to name the same day.
-- Of an event that goes to very many, the webhooks that are not told yet ($23) stand beside the position.
with held as materialized (
    select run_id from lease where run_id = $1 for key share
), messages as (
    insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body,
                         full_body, full_for)
    select m.day, m.outbox_id, $2, $3, m.type, m.occurred_at, m.recorded_at, m.fan_out, m.body, m.full_body,
           m.full_for::bigint[]
      from unnest($4::date[], $5::bigint[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::integer[],
                  $10::bytea[], $20::bytea[], $21::text[])
           as m (day, outbox_id, type, occurred_at, recorded_at, fan_out, body, full_body, full_for), held
    on conflict do nothing
), deliveries as (
    insert into delivery (day, outbox_id, webhook_id, lane, run_id)
    select m.day, m.outbox_id, d.webhook_id, $2, case when d.claimed then held.run_id end
      from unnest($11::date[], $12::bigint[], $13::text[], $14::text[])
           as m (day, outbox_id, webhook_ids, claimed),
           unnest(m.webhook_ids::bigint[], m.claimed::boolean[]) as d (webhook_id, claimed), held
    on conflict do nothing
)
insert into tail_position (day, lane, batch, run_id, done, target, xid, outbox_id, system_id, rest)
select $22, $2, $3, held.run_id, $15::text::pg_snapshot, $16::text::pg_snapshot, $17::text::xid8, $18, $19,
       $23::text::bigint[]
  from held returning batch;

-- checkpoint_newest: up to which batch everything of a shard and lane was attempted, and which webhooks wait
select batch, waiting from tail_checkpoint where shard = $1 and lane = $2 order by id desc limit 1;

-- checkpoint_append: remember up to which batch everything of a lane was attempted
insert into tail_checkpoint (shard, lane, run_id, batch, waiting)
select shard, $1, run_id, $3, $4 from lease where run_id = $2;

-- tellings: of each event $1, what was told up to the row $2: the first telling, and the latest $3
select t.event_id, t.id, t.type, t.data_text
  from unnest($1::text[], $2::bigint[]) as wanted (event_id, until)
 cross join lateral (
    (select o.event_id, o.id, o.type, o.data::text as data_text from outbox o
      where o.event_id = wanted.event_id and o.id <= wanted.until and not o.test
      order by o.id limit 1)
    union
    (select o.event_id, o.id, o.type, o.data::text from outbox o
      where o.event_id = wanted.event_id and o.id <= wanted.until and not o.test
      order by o.id desc limit $3)) t
 order by t.event_id, t.id;

-- later_tellings: of each event $1, what was told after the row $2 and up to the row $3
select t.event_id, t.id, t.type, t.data_text
  from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted (event_id, after, until)
 cross join lateral (
    select o.event_id, o.id, o.type, o.data::text as data_text from outbox o
     where o.event_id = wanted.event_id and o.id > wanted.after and o.id <= wanted.until and not o.test
     order by o.id offset 0) t
 order by t.event_id, t.id;

-- skipped_tellings: of each event $1, what was told between the rows $2 and $3, as one revision; and how many it stands for
select wanted.event_id, t.id, t.revisions, t.data_text
  from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted (event_id, first, latest)
 cross join lateral (
    with told as materialized (
        select o.id, o.type, outbox_readable(o.data::text) as data from outbox o
         where o.event_id = wanted.event_id and o.id > wanted.first and o.id < wanted.latest and not o.test
           and o.type in ('event.detected', 'event.updated')
    ), stated as (
        select told.id, 1 as place, s.key, s.value from told, jsonb_each(told.data - 'changes') s
        union all
        select told.id, 2, c.key, case when jsonb_typeof(c.value) = 'object' then c.value -> 'new' else c.value end
          from told, jsonb_each(case when told.type = 'event.updated' and jsonb_typeof(told.data -> 'changes') = 'object'
                                     then told.data -> 'changes' end) c
         where jsonb_typeof(c.value) <> 'object' or c.value ? 'new'
    )
    select (select max(id) from told) as id,
           (select count(*) from told where type = 'event.updated') as revisions,
           (select jsonb_object_agg(key, value order by id, place) from stated)::text as data_text) t
 where t.id is not null;

-- unrouted_before: whether an event of $1 has a row before the row $2, in a lane before $3, that was not fanned out yet
-- Of very many such rows the latest are looked at.
select exists (
    select from unnest($1::text[], $2::bigint[]) as revised (event_id, outbox_id)
     cross join lateral (
        select o.day, o.id from outbox o
         where o.event_id = revised.event_id and o.id < revised.outbox_id and o.lane < $3 and not o.test
         order by o.id desc limit 20) o
      left join lateral (
        select m.outbox_id from message m where m.day = o.day and m.outbox_id = o.id limit 1) m on true
     where m.outbox_id is null) as found;
