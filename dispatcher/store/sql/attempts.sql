-- recent_attempts: the last $2 attempts of each of these webhooks, tests that failed left out, the oldest first
select w.id, last.class = 2 as succeeded
  from unnest($1::bigint[]) as w (id)
  cross join lateral (
    select * from (
      (select 2 as class, e.recorded_at from delivery_event e
        where e.webhook_id = w.id and e.kind = 'attempted'
          and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 2
        order by e.recorded_at desc limit $2)
      union all
      (select 0, e.recorded_at from delivery_event e
        where e.webhook_id = w.id and e.kind = 'attempted'
          and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
        order by e.recorded_at desc limit $2)) either
     order by either.recorded_at desc limit $2) last
 order by w.id, last.recorded_at;

-- attempt_statistics: the attempts of webhook $1 since $2, at most the newest $4, in $3 equal parts of the time
-- One row more, with part null, for all of them together.
with newest as materialized (
    select * from (
      (select e.recorded_at, e.duration_ms, e.status_code, e.error_class, e.trigger, e.day, e.outbox_id,
              e.attempt_no, e.started_at from delivery_event e
        where e.webhook_id = $1 and e.kind = 'attempted' and e.recorded_at >= $2
          and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 2
        order by e.recorded_at desc limit $4)
      union all
      (select e.recorded_at, e.duration_ms, e.status_code, e.error_class, e.trigger, e.day, e.outbox_id,
              e.attempt_no, e.started_at from delivery_event e
        where e.webhook_id = $1 and e.kind = 'attempted' and e.recorded_at >= $2
          and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
        order by e.recorded_at desc limit $4)) either
     order by either.recorded_at desc limit $4
), bounds as materialized (
    select count(*) < $4 as whole, case when count(*) < $4 then $2 else min(recorded_at) end as since,
           clock_timestamp() as until
      from newest
), placed as (
    select n.*, least($3 - 1, floor(extract(epoch from n.recorded_at - b.since) * $3
                      / greatest(extract(epoch from b.until - b.since), 0.001))::integer) as part,
           case when n.trigger = 'first' and n.attempt_no = 1
                then extract(epoch from n.started_at - m.recorded_at) * 1000 end as lag_ms
      from bounds b
      cross join newest n
      left join message m on m.day = n.day and m.outbox_id = n.outbox_id and n.attempt_no = 1
     where n.trigger <> 'test'
), parts as (
    select part,
           count(*) filter (where status_code between 200 and 299) as succeeded,
           count(*) filter (where status_code not between 200 and 299) as refused,
           count(*) filter (where status_code is null and error_class in ('timeout', 'connect_timeout')) as timed_out,
           count(*) filter (where status_code is null and error_class not in ('timeout', 'connect_timeout'))
               as unreached,
           percentile_cont(array[0.5, 0.95, 0.99]) within group (order by duration_ms) as latencies,
           percentile_cont(array[0.5, 0.95]) within group (order by lag_ms) as lags
      from placed group by grouping sets ((part), ())
)
select p.part, p.succeeded, p.refused, p.timed_out, p.unreached, p.latencies, p.lags, b.since, b.until, b.whole
  from bounds b left join parts p on true;

-- last_failure: the newest attempt of a webhook that failed, tests left out
select e.day, e.outbox_id, e.started_at, e.status_code, e.error_class, e.error_message, e.response_body
  from delivery_event e
 where e.webhook_id = $1 and e.kind = 'attempted' and e.error_class is not null
   and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
 order by e.recorded_at desc limit 1;

-- pulse: a text that changes when anything happens to a webhook: a delivery, an attempt, a change, a recovery
select concat_ws(' ', w.version,
    (select d.outbox_id from delivery d where d.webhook_id = $1 order by d.outbox_id desc limit 1),
    (select max(newest.at) from (values (0), (1), (2)) as classes (class)
      cross join lateral (
        select e.recorded_at as at from delivery_event e
         where e.webhook_id = $1 and e.kind = 'attempted'
           and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end)
               = classes.class
         order by e.recorded_at desc limit 1) newest),
    (select concat_ws(' ', r.id, p.step) from recovery r
       left join lateral (
        select step from recovery_progress where recovery_id = r.id order by step desc limit 1) p on true
      where r.webhook_id = $1 order by r.id desc limit 1)) as pulse
  from webhook w where w.id = $1;

-- delivery_pulse: the same for one delivery
select concat_ws(' ', attempt_no, step) as pulse from delivery_event
 where day = $1 and outbox_id = $2 and webhook_id = $3
 order by attempt_no desc, step desc limit 1;

-- organization_pulse: the same for the 50 newest webhooks of an organization
select concat_ws(' ', max(w.version), count(*), max(newest.at)) as pulse
  from (select id, version from webhook
         where organization_id = $1 and deleted_at is null order by id desc limit 50) w
  left join lateral (
    select max(one.at) as at from (values (0), (2)) as classes (class)
     cross join lateral (
      select e.recorded_at as at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end)
             = classes.class
       order by e.recorded_at desc limit 1) one) newest on true;

-- epicentres: where a webhook's last $2 events were, of those among its last $3 deliveries that have a place; tests
-- left out. What holds no latitude is not parsed: sensors tell a lot.
select o.occurred_at, o.data ->> 'latitude' as latitude, o.data ->> 'longitude' as longitude,
       case when jsonb_typeof(o.data -> 'magnitude') = 'number' then o.data ->> 'magnitude' end as magnitude,
       o.data ->> 'location_description' as place
  from (select d.day, d.outbox_id from delivery d
         where d.webhook_id = $1 order by d.outbox_id desc limit $3) d
 cross join lateral (
    select o.occurred_at, outbox_readable(o.data::text) as data from outbox o
     where o.day = d.day and o.id = d.outbox_id and not o.test and octet_length(o.data::text) < 4000
       and strpos(o.data::text, '"latitude"') > 0 limit 1) o
 where jsonb_typeof(o.data -> 'latitude') = 'number' and jsonb_typeof(o.data -> 'longitude') = 'number'
 order by d.outbox_id desc limit $2;

-- follow_indexes: settings that hold until the transaction ends
select set_config(setting.name, setting.value, true) from unnest($1::text[], $2::text[]) as setting (name, value);
