-- redeliver: ask for one more attempt of a delivery, now, in the name of $4; rings the daemon
-- What was asked for already or is under way for the first time is left alone; a retry that waits is made now.
with last as materialized (
    select e.attempt_no, e.kind, e.state, e.failures from delivery_event e
     where e.day = $1 and e.outbox_id = $2 and e.webhook_id = $3
     order by e.attempt_no desc, e.step desc limit 1
), asked as (
    insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, failures,
                                actor, next_attempt_at)
    select $1, $2, $3, last.attempt_no + 1, 0, 'requested',
           case when last.state = 'delivered' then 'delivered' else 'pending' end,
           case when last.state = 'pending' then 'retry' else 'manual' end,
           last.failures, $4, clock_timestamp()
      from last where last.kind in ('attempted', 'cancelled', 'superseded', 'expired', 'withheld')
    on conflict do nothing returning 1
)
select pg_notify('dispatcher_outbox', 'due') from asked;

-- recovery_subscription: what a webhook wants to hear of now, and whether it may
select w.id, w.public_id, w.organization_id, w.events, w.network_ids, w.filter::text as filter, w.payload,
       w.active and w.deleted_at is null as active,
       case when w.deleted_at is not null then 'webhook deleted'
            when not w.active then coalesce(w.disabled_reason, 'webhook deactivated') end as why_inactive,
       array(select n.network_id from organization_network n
              where n.organization_id = w.organization_id) as owned,
       array(select t.name from event_type t order by t.name) as types
  from webhook w where w.id = $1;

-- closed_deliveries: of webhook $1, the next $7 that were ever failed or cancelled, after $2 and up to $3
-- `wanted`: the last word is still one of $4, and the event was recorded in the window.
select d.day, d.outbox_id, last.state,
       last.state = any ($4::text[]) and not o.test and o.recorded_at >= $5 and o.recorded_at < $6 as wanted
  from (
    select max(e.day) as day, e.outbox_id from delivery_event e
     where e.webhook_id = $1 and e.outbox_id > $2 and e.outbox_id <= $3 and e.state in ('failed', 'cancelled')
     group by e.outbox_id order by e.outbox_id limit $7) d
  cross join lateral (
    select o.test, o.recorded_at from outbox o where o.day = d.day and o.id = d.outbox_id limit 1) o
  cross join lateral (
    select e.state from delivery_event e
     where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = $1
     order by e.attempt_no desc, e.step desc limit 1) last
 order by d.outbox_id;

-- unscheduled_events: among the next $3 events of day $1 after $2, those of these types that webhook $4 was not told of
-- One row at least, with how many were looked at. What the tail has not read yet is left to the tail.
with looked_at as materialized (
    select o.day, o.id, o.type, o.recorded_at, o.test, o.target_webhook_id, o.event_id, o.network_id,
           case when $8 then o.data::text end as data_text,
           case when o.type like 'webhook.%' then outbox_readable(o.data::text) ->> 'webhook_id' end as subject
      from outbox o where o.day = $1 and o.id > $2 order by o.id limit $3
)
select bound.last_id, bound.count, found.*
  from (select max(id) as last_id, count(*) as count from looked_at) bound
  left join lateral (
    select o.id as outbox_id, o.type, o.event_id, o.data_text, m.occurred_at, m.lane, about.organization_id,
           coalesce(o.network_id, (
               select e.network_id from outbox e
                where e.event_id = o.event_id and e.network_id is not null and not e.test
                order by e.id limit 1)) as network_id
      from looked_at o
      join message m on m.day = o.day and m.outbox_id = o.id
      left join webhook about on about.public_id = o.subject
     where o.type = any ($5::text[]) and not o.test and o.target_webhook_id is null
       and o.recorded_at >= $6 and o.recorded_at < $7
       and not exists (
        select from delivery d where d.day = o.day and d.outbox_id = o.id and d.webhook_id = $4)
       and not exists (select from fan_out_begun b where b.outbox_id = o.id and $4 = any (b.rest))
  ) found on true
 order by found.outbox_id;

-- insert_recovery: let a window of a webhook's past be sent again; rings the daemon
with made as (
    insert into recovery (public_id, webhook_id, since, until, include, counted, counted_all, actor)
    values ($1, $2, $3, $4, $5, $6::json, $7, $8) returning *
)
select made.id, made.public_id, made.webhook_id, made.since, made.until, made.include,
       made.counted::text as counted, made.counted_all, made.actor, made.created_at,
       null::integer as step, null::text as phase, null::date as day, 0::bigint as place, 0::bigint as failed,
       0::bigint as cancelled, 0::bigint as missing, null::text as reason, null::timestamptz as at
  from made, lateral (select pg_notify('dispatcher_outbox', 'due')) ring;

-- hold_webhook: one recovery at a time is made for a webhook
select id from webhook where id = $1 for update;

-- running_recovery: the recovery of a webhook that has not ended
select r.public_id from recovery r
 where r.webhook_id = $1
   and not exists (
    select from recovery_progress p where p.recovery_id = r.id and p.phase in ('completed', 'stopped'))
 limit 1;

-- recoveries: a page of a webhook's recoveries, the newest first
select r.id, r.public_id, r.webhook_id, r.since, r.until, r.include, r.counted::text as counted, r.counted_all,
       r.actor, r.created_at, p.step, p.phase, p.day, coalesce(p.place, 0) as place,
       coalesce(p.failed, 0) as failed, coalesce(p.cancelled, 0) as cancelled,
       coalesce(p.missing, 0) as missing, p.reason, p.at
  from recovery r
  left join lateral (
    select * from recovery_progress where recovery_id = r.id order by step desc limit 1) p on true
 where r.webhook_id = $1 and ($2::text is null or r.public_id = $2)
 order by r.id desc offset $3 limit $4;

-- recovery_count: how many recoveries a webhook has had
select count(*) from recovery where webhook_id = $1;

-- open_recoveries: those after $3 that have not ended, at most $4, the oldest first, of $1 shards of the one numbered $2
select r.id, r.public_id, r.webhook_id, r.since, r.until, r.include, r.counted::text as counted, r.counted_all,
       r.actor, r.created_at, p.step, p.phase, p.day, coalesce(p.place, 0) as place,
       coalesce(p.failed, 0) as failed, coalesce(p.cancelled, 0) as cancelled,
       coalesce(p.missing, 0) as missing, p.reason, p.at
  from recovery r
  left join lateral (
    select * from recovery_progress where recovery_id = r.id order by step desc limit 1) p on true
 where r.webhook_id % $1::integer = $2 and r.id > $3
   and not exists (
    select from recovery_progress e where e.recovery_id = r.id and e.phase in ('completed', 'stopped'))
 order by r.id limit $4;

-- recover: ask for the attempts of one page and note how far a recovery has come, while run $1 leads
-- $8, $9: deliveries that were closed; $10 to $13: events that were never scheduled, which become deliveries,
-- with a body ($13) of their own where they are wanted in full: that of the message, if it has one already.
-- Each is requested once, whatever is asked for by hand at the same moment.
with held as materialized (
    select run_id from lease where run_id = $1
), job as materialized (
    select r.* from recovery r, held where r.id = $2
), closed as materialized (
    select c.day, c.outbox_id, last.attempt_no, last.state
      from unnest($8::date[], $9::bigint[]) as c (day, outbox_id)
      cross join job
      cross join lateral (
        select e.attempt_no, e.state from delivery_event e
         where e.day = c.day and e.outbox_id = c.outbox_id and e.webhook_id = job.webhook_id
         order by e.attempt_no desc, e.step desc limit 1) last
     where last.state = any (job.include)
), added as (
    insert into delivery (day, outbox_id, webhook_id, lane, recovery_id, body)
    select m.day, m.outbox_id, job.webhook_id, m.lane, job.id,
           case when m.body is not null then coalesce((
               select of.full_body from message of where of.day = m.day and of.outbox_id = m.outbox_id), m.body) end
      from job, unnest($10::date[], $11::bigint[], $12::smallint[], $13::bytea[]) as m (day, outbox_id, lane, body)
    on conflict do nothing returning day, outbox_id
), requested as (
    insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, failures,
                                run_id, actor, next_attempt_at)
    select wanted.day, wanted.outbox_id, job.webhook_id, wanted.attempt_no, 0, 'requested', 'pending',
           'recover', 0, $1, job.actor, clock_timestamp()
      from job, (select day, outbox_id, attempt_no + 1 as attempt_no from closed
                 union all select day, outbox_id, 1 from added) wanted
    on conflict do nothing
), before as materialized (
    select coalesce(max(p.step), 0) as step, coalesce(max(p.failed), 0) as failed,
           coalesce(max(p.cancelled), 0) as cancelled, coalesce(max(p.missing), 0) as missing
      from recovery_progress p where p.recovery_id = $2
)
insert into recovery_progress (recovery_id, step, run_id, phase, day, place, failed, cancelled, missing, reason)
select job.id, $3, $1, $4, $5, $6,
       before.failed + (select count(*) from closed where state = 'failed'),
       before.cancelled + (select count(*) from closed where state = 'cancelled'),
       before.missing + (select count(*) from added), $7
  from job, before
returning step;
