-- outbox_range: the first outbox id since day $1, and the last one up to day $2; of all, where none is given
-- A day is the finest that an index knows; the times themselves are compared row by row. Where the server's clock was
-- ahead and is put right, greater ids have earlier days: the least and the greatest of 32 days are looked for.
select case when $1::date is null then 0 else coalesce((
           select min(o.id)
             from (select day from outbox where day >= $1 order by day limit 1) edge
            cross join generate_series(0, 31) further
            cross join lateral (
               select id from outbox where day = edge.day + further order by id limit 1) o), 9223372036854775807)
       end as first_id,
       case when $2::date is null then 9223372036854775807 else coalesce((
           select max(o.id)
             from (select day from outbox where day <= $2 order by day desc limit 1) edge
            cross join generate_series(0, 31) further
            cross join lateral (
               select id from outbox where day = edge.day - further order by id desc limit 1) o), 0)
       end as last_id;

-- deliveries: deliveries of webhook $1 with outbox ids from $2 to $3, the newest first
-- With state $4, type $5, recorded since $6 and before $7, where given. Looks at 10,000 of them at most,
-- one by one and only until $9 are found: the laterals have limits, so that they are not flattened into
-- joins that would read everything. Those that failed or were cancelled are found by an index of their own.
select p.outbox_id, p.day, p.type, p.occurred_at, p.recorded_at, p.test, p.state, p.next_attempt_at,
       coalesce(a.attempts, 0) as attempts, a.status_code, a.error_class, a.error_message
  from (
    select d.outbox_id, d.day, o.type, o.occurred_at, o.recorded_at, o.test,
           coalesce(last.state, 'pending') as state, last.next_attempt_at
      from (
        (select day, outbox_id from delivery
          where coalesce($4, '') not in ('failed', 'cancelled')
            and webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3
          order by outbox_id desc limit 10000)
        union all
        (select max(day), outbox_id from delivery_event
          where $4 in ('failed', 'cancelled') and state in ('failed', 'cancelled') and state = $4
            and webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3
          group by outbox_id order by outbox_id desc limit 10000)) d
      cross join lateral (
        select o.type, o.occurred_at, o.recorded_at, o.test from outbox o
         where o.day = d.day and o.id = d.outbox_id limit 1) o
      left join lateral (
        select e.state, e.next_attempt_at from delivery_event e
         where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = $1
         order by e.attempt_no desc, e.step desc limit 1) last on true
     where ($4::text is null or coalesce(last.state, 'pending') = $4)
       and ($5::text is null or o.type = $5)
       and ($6::timestamptz is null or o.recorded_at >= $6)
       and ($7::timestamptz is null or o.recorded_at < $7)
     order by d.outbox_id desc offset $8 limit $9) p
  left join lateral (
    select count(*) over () as attempts, e.status_code, e.error_class, e.error_message
      from delivery_event e
     where e.day = p.day and e.outbox_id = p.outbox_id and e.webhook_id = $1
       and e.kind in ('attempted', 'interrupted')
     order by e.attempt_no desc, e.step desc limit 1) a on true
 order by p.outbox_id desc;

-- delivery_count: how many deliveries a webhook has in that range, up to 10,000
select count(*) from (
    select from delivery where webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3 limit 10000) d;

-- matching_delivery_count: how many of the newest 10,000 of them match
select count(*)
  from (
    (select day, outbox_id from delivery
      where coalesce($4, '') not in ('failed', 'cancelled')
        and webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3
      order by outbox_id desc limit 10000)
    union all
    (select max(day), outbox_id from delivery_event
      where $4 in ('failed', 'cancelled') and state in ('failed', 'cancelled') and state = $4
        and webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3
      group by outbox_id order by outbox_id desc limit 10000)) d
  cross join lateral (
    select o.type, o.recorded_at from outbox o where o.day = d.day and o.id = d.outbox_id limit 1) o
  left join lateral (
    select e.state from delivery_event e
     where e.day = d.day and e.outbox_id = d.outbox_id and e.webhook_id = $1
     order by e.attempt_no desc, e.step desc limit 1) last on true
 where ($4::text is null or coalesce(last.state, 'pending') = $4)
   and ($5::text is null or o.type = $5)
   and ($6::timestamptz is null or o.recorded_at >= $6)
   and ($7::timestamptz is null or o.recorded_at < $7);

-- window_end: the last of the 10,000 deliveries that a page looks at, where there are more
select outbox_id from (
    (select outbox_id from delivery
      where coalesce($4, '') not in ('failed', 'cancelled')
        and webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3
      order by outbox_id desc offset 9999 limit 1)
    union all
    (select outbox_id from delivery_event
      where $4 in ('failed', 'cancelled') and state in ('failed', 'cancelled') and state = $4
        and webhook_id = $1 and outbox_id >= $2 and outbox_id <= $3
      group by outbox_id order by outbox_id desc offset 9999 limit 1)) d;

-- delivery_message: the event of a delivery; of a test also before it was fanned out
select o.type, o.occurred_at, o.recorded_at, o.test,
       coalesce(d.body, case when $3 = any (m.full_for) then m.full_body else m.body end) as body,
       case when m.body is null then o.data::text end as data_text
  from outbox o
  left join message m on m.day = o.day and m.outbox_id = o.id
  left join delivery d on d.day = o.day and d.outbox_id = o.id and d.webhook_id = $3
 where o.day = $1 and o.id = $2 and (o.target_webhook_id = $3 or d.webhook_id is not null);

-- delivery_facts: everything that happened to a delivery, in order; a real is read by its text, lest 7.572 be 7.572000026
select attempt_no, kind, state, trigger, recorded_at, started_at, duration_ms::text::float8 as duration_ms,
       status_code, error_class, error_message, next_attempt_at, reason, actor, address, request_headers, response_headers, response_body,
       response_truncated, timings
  from delivery_event
 where day = $1 and outbox_id = $2 and webhook_id = $3
 order by attempt_no, step;
