-- failing_webhooks: active webhooks whose latest attempts all failed, and since when; failed tests do not count
-- Another URL and an activation begin a new streak; after any other edit, which may have mended it, it has to have
-- failed once more. Two or three probes of one index each.
select w.id, w.public_id, w.url, streak.since, latest.recorded_at as latest_at
  from webhook w
  left join lateral (
      select e.recorded_at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted' and e.recorded_at > w.judged_from
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 2
       order by e.recorded_at desc limit 1) success on true
  cross join lateral (
      select e.recorded_at as since from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
         and e.recorded_at > coalesce(success.recorded_at, w.judged_from)
       order by e.recorded_at limit 1) streak
  cross join lateral (
      select e.recorded_at from delivery_event e
       where e.webhook_id = w.id and e.kind = 'attempted'
         and (case when status_code between 200 and 299 then 2 when trigger = 'test' then 1 else 0 end) = 0
       order by e.recorded_at desc limit 1) latest
 where w.active and w.deleted_at is null and w.id % $2::integer = $3
   and streak.since < clock_timestamp() - make_interval(secs => $1) and latest.recorded_at > w.updated_at;

-- all_gone: whether every attempt of a delivery was answered with 410
select bool_and(status_code is not distinct from 410) from delivery_event
 where day = $1 and outbox_id = $2 and webhook_id = $3 and kind = 'attempted';

-- announce_failing: tell the organization's other webhooks, once for each streak
insert into outbox (type, data, dedup_key)
values ('webhook.failing', json_build_object('webhook_id', $1::text, 'url', $2::text, 'failing_since', $3::text),
        'webhook.failing ' || $1 || ' ' || $3)
on conflict do nothing;

-- disable_webhook: deactivate a webhook, say why, and tell the organization's other webhooks
with held as materialized (
    select run_id from lease where run_id = $1
), stopped as (
    update webhook set active = false, disabled_reason = $3, updated_at = clock_timestamp()
      from held where id = $2 and active and deleted_at is null
    returning public_id, url
), noted as (
    insert into audit (actor, action, subject, details)
    select 'dispatcher', 'webhook.disabled', public_id, json_build_object('reason', $3::text) from stopped
)
insert into outbox (type, data)
select 'webhook.disabled', json_build_object('webhook_id', public_id, 'url', url, 'reason', $3::text) from stopped;
