-- latest_deliveries: the newest deliveries with their last fact; $1 a webhook's public id or null for all, $2 how many
select d.day, d.outbox_id, d.webhook_id, w.public_id as webhook, m.type, m.recorded_at,
       coalesce(e.state, 'pending') as state, coalesce(e.attempts, 0) as attempts,
       e.started_at, e.duration_ms, e.status_code, e.error_class, e.next_attempt_at, e.reason
  from (
    (select day, outbox_id, webhook_id from delivery
      where $1::text is null order by day desc, outbox_id desc, webhook_id desc limit $2)
    union all
    (select day, outbox_id, webhook_id from delivery
      where webhook_id = (select id from webhook where public_id = $1) order by outbox_id desc limit $2)
  ) d
  join webhook w on w.id = d.webhook_id
  join message m on m.day = d.day and m.outbox_id = d.outbox_id
  left join lateral (
    select f.state, f.started_at, f.duration_ms, f.status_code, f.error_class, f.next_attempt_at, f.reason,
           (select count(*) from delivery_event a
             where a.day = d.day and a.outbox_id = d.outbox_id and a.webhook_id = d.webhook_id
               and a.kind = 'attempted') as attempts
      from delivery_event f
     where f.day = d.day and f.outbox_id = d.outbox_id and f.webhook_id = d.webhook_id
     order by f.attempt_no desc, f.step desc limit 1
  ) e on true
 order by d.outbox_id desc, d.webhook_id desc;

-- facts_since: what was recorded at or after $2, oldest first, $3 at most; $1 a webhook's public id or null for all
select f.day, f.outbox_id, f.webhook_id, f.attempt_no, f.step, w.public_id as webhook, m.type, f.kind, f.state,
       f.trigger, f.recorded_at, f.started_at, f.duration_ms, f.status_code, f.error_class, f.error_message,
       f.next_attempt_at, f.reason
  from (
    select * from delivery_event e
     where e.recorded_at >= $2
       and ($1::text is null or e.webhook_id = (select id from webhook where public_id = $1))
     order by e.recorded_at, e.outbox_id, e.webhook_id, e.attempt_no, e.step limit $3
  ) f
  join webhook w on w.id = f.webhook_id
  join message m on m.day = f.day and m.outbox_id = f.outbox_id
 order by f.recorded_at, f.outbox_id, f.webhook_id, f.attempt_no, f.step;

-- webhook_exists: whether there is, or was, a webhook of this public id
select exists (select from webhook where public_id = $1);

-- database_clock: the database's present time
select clock_timestamp();
