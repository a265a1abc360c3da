-- busy_webhooks: the $2 webhooks whose attempts since $1 took longest, at most 300 looked at for each
-- By the index of answers: its three kinds, each from the newest on.
select w.public_id as webhook, w.url, w.active, count(*) as attempts,
       count(*) filter (where f.status_code is null or f.status_code not between 200 and 299) as failures,
       percentile_cont(0.5) within group (order by f.duration_ms) as median_ms, max(f.duration_ms) as most_ms,
       count(*) filter (where f.next_attempt_at is not null) as retried
  from webhook w
  cross join unnest(array[0, 1, 2]) as answer
  cross join lateral (
    select e.status_code, e.duration_ms, e.next_attempt_at from delivery_event e
     where e.webhook_id = w.id and e.kind = 'attempted'
       and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = answer
       and e.recorded_at >= $1
     order by e.recorded_at desc limit 100) f
 where w.deleted_at is null
 group by w.id
 order by most_ms desc nulls last, w.id limit $2;
